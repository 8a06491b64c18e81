package iam

import (
	"slices"
	"strings"
)

// actions are all there are.
var actions = []string{
	"Function:List", "Function:Get", "Function:Create", "Function:Update", "Function:Delete",
	"Function:Logs", "Function:Scale", "Function:Invoke",
	"Secret:List", "Secret:Create", "Secret:Update", "Secret:Delete",
	"Namespace:List", "Namespace:Get", "Namespace:Create", "Namespace:Update", "Namespace:Delete",
	"System:Info",
}

// Actions returns the names of all actions there are.
func Actions() []string { return slices.Clone(actions) }

// granted returns the actions that pattern, as a statement writes it, stands
// for: none when it is unknown.
func granted(pattern string) []string {
	switch pattern {
	case "*":
		return actions
	case "Function:*", "Secret:*", "Namespace:*", "System:*":
		return actionsWhere(func(a string) bool { return strings.HasPrefix(a, strings.TrimSuffix(pattern, "*")) })
	case "Function:Read":
		return []string{"Function:List", "Function:Get", "Function:Logs"}
	case "Function:Admin":
		return actionsWhere(func(a string) bool { return strings.HasPrefix(a, "Function:") && a != "Function:Invoke" })
	case "Secret:Read":
		return []string{"Secret:List"}
	}
	return actionsWhere(func(a string) bool { return a == pattern })
}

func actionsWhere(keep func(action string) bool) []string {
	return slices.DeleteFunc(slices.Clone(actions), func(a string) bool { return !keep(a) })
}
