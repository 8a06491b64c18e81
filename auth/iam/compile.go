package iam

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Compile checks objects and makes a set of those without fault. The problems
// are in the order of the objects: issuers, policies, roles. What objects hold
// may be changed afterwards.
func Compile(objects Objects) (*Set, []Problem) {
	c := compiler{set: &Set{byIss: map[string]*JwtIssuer{}, policies: map[string][]statement{}}}

	names := counts(objects.Issuers, func(o JwtIssuer) string { return o.Metadata.Name })
	isses := counts(objects.Issuers, func(o JwtIssuer) string { return o.Spec.Iss })
	for _, o := range objects.Issuers {
		c.object("JwtIssuer", o.Metadata, names, func() error { return c.issuer(o, isses) })
	}
	slices.SortFunc(c.set.issuers, func(a, b *JwtIssuer) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })

	names = counts(objects.Policies, func(o Policy) string { return o.Metadata.Name })
	for _, o := range objects.Policies {
		c.object("Policy", o.Metadata, names, func() error { return c.policy(o) })
	}

	// Last, as roles name policies.
	names = counts(objects.Roles, func(o Role) string { return o.Metadata.Name })
	for _, o := range objects.Roles {
		c.object("Role", o.Metadata, names, func() error { return c.role(o) })
	}
	c.set.index = newIndex(c.set.roles)
	return c.set, c.problems
}

type compiler struct {
	set      *Set
	problems []Problem
	warn     func(message string) // about the object that is being compiled
	source   string               // of that object
}

// object compiles one object by add, and turns warnings and the error into
// problems that say which object they are about.
func (c *compiler) object(kind string, m Metadata, names map[string]int, add func() error) {
	about := fmt.Sprintf("%s %.253q", kind, m.Name) // as long as Kubernetes lets a name be
	c.source = cmp.Or(m.Source, about)
	problem := func(ignored bool, message string) {
		c.problems = append(c.problems, Problem{Source: c.source, Message: about + ": " + message, Ignored: ignored})
	}
	c.warn = func(message string) { problem(false, message) }
	switch {
	case m.Name == "":
		problem(true, "metadata.name is missing; the object is ignored")
	case names[m.Name] > 1:
		problem(true, fmt.Sprintf("%d objects have this kind and name, and all are ignored; give each a name of its own", names[m.Name]))
	default:
		if err := add(); err != nil {
			problem(true, err.Error()+"; the object is ignored")
		}
	}
}

func (c *compiler) issuer(o JwtIssuer, isses map[string]int) error {
	spec := o.Spec
	if err := checkURL("spec.iss", spec.Iss); err != nil {
		return err
	}
	if isses[spec.Iss] > 1 {
		return fmt.Errorf("%d JwtIssuers have the spec.iss %q, and all are ignored; merge them, spec.aud is a list", isses[spec.Iss], spec.Iss)
	}
	if spec.IssInternal != "" {
		if err := checkURL("spec.issInternal", spec.IssInternal); err != nil {
			return err
		}
	}
	if len(spec.Aud) == 0 || slices.Contains(spec.Aud, "") {
		return fmt.Errorf("spec.aud is %q: want one audience or more, none of them empty", spec.Aud)
	}
	if spec.Expiry() < time.Second {
		return fmt.Errorf("spec.tokenExpiry is %q: want a duration of at least 1s, such as 30m or 2h", spec.TokenExpiry)
	}
	o.Spec.Aud = slices.Clone(spec.Aud)
	c.set.byIss[spec.Iss] = &o
	c.set.issuers = append(c.set.issuers, &o)
	return nil
}

// checkURL refuses what is no issuer's URL (OpenID Connect Discovery 1.0 §3,
// but for http, which issuers within a cluster use).
func checkURL(field, s string) error {
	u, err := url.Parse(s)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		!strings.ContainsAny(s, "?#") {
		return nil
	}
	if strings.Contains(s, "@") {
		s = "not shown, as it may hold a password" // and a problem gets logged
	}
	return fmt.Errorf("%s is %q: want http:// or https://, a host and perhaps a path, with no user, query or fragment", field, s)
}

func (c *compiler) policy(o Policy) error {
	if len(o.Spec.Statement) == 0 {
		return errors.New("spec.statement is missing or empty: want one statement or more")
	}
	var statements []statement
	for i, s := range o.Spec.Statement {
		path := fmt.Sprintf("spec.statement[%d]", i)
		if s.Sid != "" {
			path += fmt.Sprintf(" (sid %.64q)", s.Sid) // it stands in every warning
		}
		st, err := c.statement(path, s)
		if err != nil {
			return err
		}
		statements = append(statements, st)
	}
	c.set.policies[o.Metadata.Name] = statements
	return nil
}

func (c *compiler) statement(path string, s Statement) (statement, error) {
	st := statement{path: path, source: c.source, actions: map[string]bool{}, resources: slices.Clone(s.Resource)}
	if s.Effect != "Allow" {
		return st, fmt.Errorf("%s: effect is %q: only \"Allow\" exists, what is not allowed is denied", path, s.Effect)
	}
	if len(s.Action) == 0 {
		return st, fmt.Errorf("%s: action is missing or empty: want a list, such as [\"Function:Invoke\"]", path)
	}
	for _, pattern := range s.Action {
		known := granted(pattern)
		if len(known) == 0 {
			c.warn(fmt.Sprintf("%s: the unknown action %q grants nothing: want %s, a group's wildcard such as Function:*, or *",
				path, pattern, strings.Join(actions, ", ")))
		}
		for _, a := range known {
			st.actions[a] = true
		}
	}
	if len(s.Resource) == 0 {
		return st, fmt.Errorf("%s: resource is missing or empty: want a list, such as [\"dev:*\"]", path)
	}
	for _, r := range s.Resource {
		if !r.Valid() {
			return st, fmt.Errorf("%s: resource is %q: want *, <namespace>:* or <namespace>:<name>", path, r)
		}
	}
	tests, warnings, err := condition("condition", s.Condition)
	if err != nil {
		return st, fmt.Errorf("%s: %w", path, err)
	}
	for _, w := range warnings {
		c.warn(path + ": " + w)
	}
	st.when = tests
	return st, nil
}

func (c *compiler) role(o Role) error {
	spec := o.Spec
	if len(spec.Policy) == 0 {
		return errors.New("spec.policy is missing or empty: want the names of one policy or more")
	}
	if spec.Principal == nil && spec.Condition == nil {
		return errors.New("it has neither spec.principal nor spec.condition, and so matches nobody: give one, such as principal: {\"jwt:sub\": [...]}")
	}
	r := &role{name: o.Metadata.Name, source: c.source}
	var warnings []string
	if spec.Principal != nil {
		equal, _ := operator("StringEqual")
		tests, ws, err := match("spec.principal", spec.Principal, equal)
		if err != nil {
			return err
		}
		r.when, warnings = tests, ws
	}
	tests, ws, err := condition("spec.condition", spec.Condition)
	if err != nil {
		return err
	}
	r.when, warnings = append(r.when, tests...), append(warnings, ws...)

	for _, name := range spec.Policy {
		if _, ok := c.set.policies[name]; ok {
			r.policies = append(r.policies, name)
		} else {
			warnings = append(warnings, fmt.Sprintf("spec.policy names %q, and there is no such Policy without fault; it gives nothing", name))
		}
	}
	for _, w := range warnings {
		c.warn(w)
	}
	c.set.roles = append(c.set.roles, r)
	return nil
}

// counts counts objects by key.
func counts[T any](objects []T, key func(T) string) map[string]int {
	n := map[string]int{}
	for _, o := range objects {
		n[key(o)]++
	}
	return n
}
