package watchdog

// testFunction is the function of the http mode tests.
func testFunction(address string) {}
