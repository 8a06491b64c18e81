package iam

import "slices"

// index finds the roles that may match some claims, so that who has one role
// does not pay for the ten thousand of others. A role stands under the values
// of one of its tests for equality: the one whose values the fewest other roles
// name, which among roles of one issuer is the subject or the group. A role
// without such a test, with StringLike alone say, is always looked at. What is
// found is still to be tested in full.
type index struct {
	claims []claimIndex
	rest   []*role // always looked at
}

// claimIndex holds roles by the values of a claim.
type claimIndex struct {
	path  []string
	roles map[string][]*role
}

func newIndex(roles []*role) index {
	// By the key as it is written: of two spellings of a claim each gets a
	// claimIndex of its own, which costs one look-up more.
	type word struct{ key, value string }
	uses := map[word]int{}
	for _, r := range roles {
		for _, t := range r.when {
			for _, value := range t.values {
				if t.exact {
					uses[word{t.key, value}]++
				}
			}
		}
	}

	var x index
	position := map[string]int{} // in x.claims
	for _, r := range roles {
		best, fewest := -1, 0
		for i, t := range r.when {
			sum := 0
			for _, value := range t.values {
				sum += uses[word{t.key, value}]
			}
			if t.exact && (best < 0 || sum < fewest) {
				best, fewest = i, sum
			}
		}
		if best < 0 {
			x.rest = append(x.rest, r)
			continue
		}
		t := r.when[best]
		i, ok := position[t.key]
		if !ok {
			i = len(x.claims)
			position[t.key] = i
			x.claims = append(x.claims, claimIndex{path: t.path, roles: map[string][]*role{}})
		}
		for _, value := range slices.Compact(slices.Sorted(slices.Values(t.values))) {
			x.claims[i].roles[value] = append(x.claims[i].roles[value], r)
		}
	}
	return x
}

// candidates returns every role that matches claims, among some that do not. A
// role may come twice.
func (x index) candidates(claims map[string]any) []*role {
	found := slices.Clone(x.rest)
	for _, c := range x.claims {
		for _, value := range texts(lookup(claims, c.path)) {
			found = append(found, c.roles[value]...)
		}
	}
	return found
}

// texts returns the text of a claim, or those of a list's items, each once: a
// token that repeats an item does not make us look twice.
func texts(claim any) []string {
	var all []string
	add := func(claim any) {
		if s, ok := text(claim); ok {
			all = append(all, s)
		}
	}
	switch list := claim.(type) {
	case []any:
		for _, item := range list {
			add(item)
		}
	case []string:
		all = slices.Clone(list)
	default:
		add(claim)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
