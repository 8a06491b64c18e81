package iam

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// claimsOf decodes claims as package auth hands them over.
func claimsOf(t *testing.T, s string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	claims := map[string]any{}
	require.NoError(t, d.Decode(&claims), s)
	return claims
}

func TestCondition(t *testing.T) {
	t.Parallel()
	on := func(operator string, values ...string) Condition { return Condition{operator: {"jwt:c": values}} }
	for _, c := range []struct {
		condition Condition
		claims    string
		want      bool
	}{
		{on("StringEqual", "dev"), `{"c":"dev"}`, true},
		{on("StringEquals", "dev"), `{"c":"dev"}`, true},
		{on("StringEqual", "dev"), `{"c":"Dev"}`, false},
		{on("StringEqual", "dev"), `{"c":"dev2"}`, false},
		{on("StringEqual", "dev"), `{"c":"mydev"}`, false},
		{on("StringEqual", "dev*"), `{"c":"dev2"}`, false},
		{on("StringEqual", "a", "b"), `{"c":"b"}`, true},
		{on("StringEqual", "caf\u00e9"), `{"c":"cafe\u0301"}`, false}, // no normalization

		{on("StringEqualIgnoreCase", "Alice@Example.com"), `{"c":"aLICE@eXAMPLE.COM"}`, true},
		{on("StringEqualIgnoreCase", "ab"), `{"c":"abc"}`, false},
		{on("StringEqualIgnoreCase", "kim"), `{"c":"\u212aim"}`, false}, // Kelvin sign
		{on("StringEqualIgnoreCase", "sam"), `{"c":"\u017fam"}`, false}, // long s
		{on("StringEqualIgnoreCase", "\u00e9"), `{"c":"\u00c9"}`, false},
		{on("StringEqualIgnoreCase", "@["), "{\"c\":\"`{\"}", false}, // letters alone have a case

		{on("StringLike", "*@example.com"), `{"c":"han@example.com"}`, true},
		{on("StringLike", "*@example.com"), `{"c":"han@example.com.evil.org"}`, false},
		{on("StringLike", "*@example.com"), `{"c":"han@exampleXcom"}`, false},
		{on("StringLike", "refs/heads/*"), `{"c":"refs/heads/main"}`, true},
		{on("StringLike", "refs/heads/*"), `{"c":"x/refs/heads/main"}`, false},
		{on("StringLike", "h?n"), `{"c":"han"}`, false},
		{on("StringLike", "*"), `{"c":""}`, true},
		{on("StringLike", "*"), `{}`, false},

		// Missing claims and other types.
		{on("StringEqual", ""), `{}`, false},
		{on("StringEqual", ""), `{"c":null}`, false},
		{on("StringEqual", ""), `{"c":""}`, true},
		{on("StringEqual", "null"), `{"c":null}`, false},
		{on("StringLike", "*"), `{"c":{"a":"b"}}`, false},
		{on("StringEqual"), `{"c":""}`, false},
		{on("StringEqual", "dev"), `{"C":"dev"}`, false}, // claim names have a case

		// Lists want the set form, and the set form takes scalars.
		{on("StringEqual", "dev"), `{"c":["dev"]}`, false},
		{on("StringLike", "*"), `{"c":["dev"]}`, false},
		{on("ForAnyValue:StringEqual", "dev"), `{"c":["ops","dev"]}`, true},
		{on("ForAnyValue:StringEqual", "dev"), `{"c":["ops"]}`, false},
		{on("ForAnyValue:StringEqual", "dev"), `{"c":[]}`, false},
		{on("ForAnyValue:StringEqual", "dev"), `{"c":"dev"}`, true},
		{on("ForAnyValue:StringEqual", "dev"), `{}`, false},
		{on("ForAnyValue:StringLike", "team-*"), `{"c":["x","team-a"]}`, true},
		{on("ForAnyValue:StringLike", "*"), `{"c":[["dev"],{"a":"b"},null]}`, false},
		{on("ForAnyValue:StringEquals", "7"), `{"c":["dev",7]}`, true},
		{on("ForAnyValue:StringEqualIgnoreCase", "DEV"), `{"c":["dev"]}`, true},

		// Booleans and numbers are text.
		{on("StringEqual", "true"), `{"c":true}`, true},
		{on("StringEqual", "True"), `{"c":true}`, false},
		{on("StringEqual", "1"), `{"c":true}`, false},
		{on("StringEqual", "1"), `{"c":1}`, true},
		{on("StringEqual", "1"), `{"c":"1"}`, true},
		{on("StringEqual", "1"), `{"c":1.0}`, true},
		{on("StringEqual", "1.0"), `{"c":1.0}`, false},
		{on("StringEqual", "1.5"), `{"c":1.50}`, true},
		{on("StringEqual", "1000"), `{"c":1e3}`, true},
		{on("StringEqual", "1e3"), `{"c":1e3}`, false},
		{on("StringEqual", "0"), `{"c":-0.0}`, true},
		{on("StringEqual", "12345678901234567890123"), `{"c":12345678901234567890123}`, true},
		{on("StringEqual", "9007199254740992"), `{"c":9007199254740993}`, false},
		{on("StringLike", "*"), `{"c":1e999999999}`, false},

		// Operators and keys are ANDed.
		{Condition{"StringEqual": {"jwt:a": {"1"}, "jwt:b": {"2"}}}, `{"a":"1","b":"2"}`, true},
		{Condition{"StringEqual": {"jwt:a": {"1"}, "jwt:b": {"2"}}}, `{"a":"1","b":"3"}`, false},
		{Condition{"StringEqual": {"jwt:a": {"1"}}, "StringLike": {"jwt:b": {"2*"}}}, `{"a":"1","b":"22"}`, true},
		{Condition{"StringEqual": {"jwt:a": {"1"}}, "StringLike": {"jwt:b": {"2*"}}}, `{"a":"1","b":"3"}`, false},
		{Condition{"StringEqual": {"jwt:a": {"1"}}, "StringEquals": {"jwt:a": {"2"}}}, `{"a":"1"}`, false},

		// A claim's name is all that follows jwt:, ...
		{Condition{"StringEqual": {"jwt:fed:iss": {"x"}}}, `{"fed:iss":"x"}`, true},
		{Condition{"StringEqual": {"jwt:https://a.b/c": {"x"}}}, `{"https://a.b/c":"x"}`, true},
		{Condition{"StringEqual": {"jwt:a.b": {"x"}}}, `{"a":{"b":"x"}}`, false},
		{Condition{"StringEqual": {"jwt:a.b": {"x"}}}, `{"a.b":"x"}`, true},
		{Condition{"StringEqual": {"jwt:~1": {"x"}}}, `{"~1":"x"}`, true},
		// ... unless that begins with a slash: then it is a path into objects.
		{Condition{"StringEqual": {"jwt:/kubernetes.io/serviceaccount/name": {"x"}}}, `{"kubernetes.io":{"serviceaccount":{"name":"x"}}}`, true},
		{Condition{"StringEqual": {"jwt:/kubernetes.io/serviceaccount/name": {"x"}}}, `{"kubernetes.io":{"serviceaccount":{"name":"y"}}}`, false},
		{Condition{"StringEqual": {"jwt:/a": {"x"}}}, `{"a":"x"}`, true},
		{Condition{"StringEqual": {"jwt:/https:~1~1a.b~1c/d": {"x"}}}, `{"https://a.b/c":{"d":"x"}}`, true},
		{Condition{"StringEqual": {"jwt:/a~0b/~01": {"x"}}}, `{"a~b":{"~1":"x"}}`, true},
		{Condition{"ForAnyValue:StringEqual": {"jwt:/realm_access/roles": {"dev"}}}, `{"realm_access":{"roles":["ops","dev"]}}`, true},
		{Condition{"StringLike": {"jwt:/a/b": {"*"}}}, `{"a":{"b":{"c":"x"}}}`, false},
		{Condition{"StringLike": {"jwt:/a/b": {"*"}}}, `{"a":{"b":null}}`, false},
		{Condition{"StringLike": {"jwt:/a/b/c": {"*"}}}, `{"a":{"b":"x"}}`, false},
		{Condition{"StringLike": {"jwt:/a/0": {"*"}}}, `{"a":["x"]}`, false},
		{Condition{"ForAnyValue:StringLike": {"jwt:/a/b": {"*"}}}, `{"a":[{"b":"x"}]}`, false},
		// No claim's name passes for a path, nor the other way round: who can
		// name a claim must not be able to stand in for the issuer.
		{Condition{"StringEqual": {"jwt:/a/b": {"x"}}}, `{"a/b":"x","/a/b":"x","a":{"b":"y"}}`, false},
		{Condition{"StringEqual": {"jwt:/a/b": {"x"}}}, `{"a/b":"x","/a/b":"x"}`, false},
		{Condition{"StringEqual": {"jwt:a/b": {"x"}}}, `{"a":{"b":"x"}}`, false},
		{Condition{"StringEqual": {"jwt:a/b": {"x"}}}, `{"a":{"b":"x"},"a/b":"y"}`, false},
	} {
		tests, _, err := condition("condition", c.condition)
		require.NoError(t, err)
		require.Equal(t, c.want, allMatch(tests, claimsOf(t, c.claims)), "%v on %s", c.condition, c.claims)
	}
}

// Claims decoded without json.Number, and by libraries that type a list.
func TestConditionOnOtherGoTypes(t *testing.T) {
	t.Parallel()
	tests, _, err := condition("condition", Condition{"ForAnyValue:StringEqual": {"jwt:c": {"1000", "dev"}}})
	require.NoError(t, err)
	require.True(t, allMatch(tests, map[string]any{"c": 1e3}))
	require.True(t, allMatch(tests, map[string]any{"c": []any{1e3}}))
	require.True(t, allMatch(tests, map[string]any{"c": []string{"dev"}}))
	require.False(t, allMatch(tests, map[string]any{"c": []string{"ops"}}))
}

func TestConditionFaults(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Condition{
		`unknown operator "StringNotEqual"`:           {"StringNotEqual": {"jwt:a": {"1"}}},
		`unknown operator "ForAllValues:StringEqual"`: {"ForAllValues:StringEqual": {"jwt:a": {"1"}}},
		`unknown operator "stringequal"`:              {"stringequal": {"jwt:a": {"1"}}},
		`unknown operator "ForAnyValue:"`:             {"ForAnyValue:": {"jwt:a": {"1"}}},
		`unknown key "sub"`:                           {"StringEqual": {"sub": {"1"}}},
		`unknown key "jwt:"`:                          {"StringEqual": {"jwt:": {"1"}}},
		`unknown key "jwt:/"`:                         {"StringEqual": {"jwt:/": {"1"}}},
		`unknown key "jwt:/a/"`:                       {"StringEqual": {"jwt:/a/": {"1"}}},
		`unknown key "jwt://a"`:                       {"StringEqual": {"jwt://a": {"1"}}},
		`unknown key "jwt:/a~2"`:                      {"StringEqual": {"jwt:/a~2": {"1"}}},
		`unknown key "jwt:/a~"`:                       {"StringEqual": {"jwt:/a~": {"1"}}},
		`unknown key "JWT:sub"`:                       {"StringEqual": {"JWT:sub": {"1"}}},
		`condition.StringEqual is empty`:              {"StringEqual": {}},
		`condition is empty`:                          {},
	} {
		_, _, err := condition("condition", c)
		require.ErrorContains(t, err, want)
	}
	_, _, err := condition("condition", Condition{"ForAnyValue:ForAnyValue:StringEqual": {"jwt:a": {"1"}}})
	require.ErrorContains(t, err, "unknown operator")

	_, warnings, err := condition("condition", Condition{"StringEqual": {"jwt:a": nil}})
	require.NoError(t, err)
	require.Equal(t, []string{"condition.StringEqual.jwt:a has no values and so matches nothing"}, warnings)
}
