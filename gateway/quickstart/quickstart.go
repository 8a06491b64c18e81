// Package quickstart holds what `gateway up` starts with in an empty folder:
// a stack file, a sample of IAM objects, and the hello function.
package quickstart

import _ "embed"

// Stack is the stack.yml with the functions env, hello and upper.
//
//go:embed stack.yml
var Stack []byte

// IAM is a sample Policy with two Roles, for tokens of the development
// identity provider.
//
//go:embed iam.yaml
var IAM []byte
