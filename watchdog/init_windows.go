package watchdog

// Init reports false: Windows has no process 1 and no orphans to wait for.
func Init(args, environ []string) (status int, ok bool) { return 0, false }
