package iam

import (
	"fmt"
	"testing"
)

// manyObjects returns n roles of one issuer and n policies, one each.
func manyObjects(n int) (o Objects) {
	for i := range n {
		name := fmt.Sprint("team-", i)
		o.Policies = append(o.Policies, policyOf(name, allow("Function:Invoke", Resource(name+":*"))))
		o.Roles = append(o.Roles, Role{Metadata: Metadata{Name: name}, Spec: RoleSpec{
			Policy: []string{name}, Principal: Match{"jwt:sub": {name}},
			Condition: Condition{"StringEqual": {"jwt:iss": {"https://idp"}}},
		}})
	}
	return o
}

func BenchmarkPolicies(b *testing.B) {
	claims := map[string]any{"iss": "https://idp", "sub": "team-7"}
	for _, n := range []int{10, 10_000} {
		set, _ := Compile(manyObjects(n))
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(set.Policies(claims)) != 1 {
					b.Fatal("no policy")
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	o := manyObjects(10_000)
	b.ReportAllocs()
	for b.Loop() {
		Compile(o)
	}
}
