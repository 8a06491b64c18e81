package executor

import "strings"

// withTraceparent puts the parent of the function's own spans into env (W3C
// Trace Context); "" leaves env alone.
func withTraceparent(env []string, traceparent string) []string {
	const prefix = "Http_Traceparent="
	if traceparent == "" {
		return env
	}
	for i, v := range env {
		if strings.HasPrefix(v, prefix) {
			env[i] = prefix + traceparent
			return env
		}
	}
	return append(env, prefix+traceparent)
}
