package store

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/gatehound/gatehound/auth/iam"
)

// Report is what [Check] found.
type Report struct {
	// Set is what a gateway would go by.
	Set *iam.Set
	// Files, and the objects in them without those that were ignored as they
	// were read.
	Files, Issuers, Policies, Roles int
	Problems                        []iam.Problem
}

// Check reads files and folders once; of a folder the files that [Open] would
// read. The error is for what is not there and for a folder without any file: a
// check that looked at nothing must not pass for a good one.
func Check(paths ...string) (Report, error) {
	var r Report
	var objects iam.Objects
	for _, path := range paths {
		files, err := filesAt(path)
		if err != nil {
			return Report{}, err
		}
		for _, file := range files {
			r.Files++
			data, err := readContent(file)
			var found iam.Objects
			var problems []iam.Problem
			if err == nil {
				found, problems, err = decode(file, data)
			}
			if err != nil {
				problems = append(problems, unreadable(file, err))
			}
			objects.Issuers = append(objects.Issuers, found.Issuers...)
			objects.Policies = append(objects.Policies, found.Policies...)
			objects.Roles = append(objects.Roles, found.Roles...)
			r.Problems = append(r.Problems, problems...)
		}
	}
	r.Issuers, r.Policies, r.Roles = len(objects.Issuers), len(objects.Policies), len(objects.Roles)
	set, problems := iam.Compile(objects)
	r.Set, r.Problems = set, append(r.Problems, problems...)
	return r, nil
}

// filesAt returns the file at path, or those of the folder there.
func filesAt(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if counts(e.Name()) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("the folder %s holds no *.yaml and no *.yml file; those of folders below it do not count", path)
	}
	return files, nil
}

var yamlLine = regexp.MustCompile(`^yaml: line ([0-9]+): `)

// unreadable is the problem of a file of which nothing can be told.
func unreadable(path string, err error) iam.Problem {
	p := iam.Problem{Source: path, Message: err.Error(), Ignored: true}
	if line := yamlLine.FindStringSubmatch(p.Message); line != nil {
		p.Source += ":" + line[1]
		p.Message = "yaml: " + p.Message[len(line[0]):]
	}
	return p
}
