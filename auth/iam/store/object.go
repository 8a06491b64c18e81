package store

import (
	"fmt"

	"github.com/gatehound/gatehound/auth/iam"
)

// Object reads one object that is in no file, as JSON or YAML, by the rules of
// the folder's files. The source, such as "Role openfaas/dev", stands in its
// problems in the place of a file and line.
func Object(source string, data []byte) (iam.Objects, []iam.Problem) {
	objects, problems, err := decode(source, data)
	if err != nil {
		problems = []iam.Problem{{Message: fmt.Sprintf("%v; the object is ignored", err), Ignored: true}}
	}
	for i := range problems {
		problems[i].Source = source
	}
	for i := range objects.Issuers {
		objects.Issuers[i].Metadata.Source = source
	}
	for i := range objects.Policies {
		objects.Policies[i].Metadata.Source = source
	}
	for i := range objects.Roles {
		objects.Roles[i].Metadata.Source = source
	}
	return objects, problems
}
