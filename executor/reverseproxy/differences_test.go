package reverseproxy

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write DIFFERENCES.md anew")

// TestDifferencesFile: the file says what the differential test accepts, no
// more and no less.
func TestDifferencesFile(t *testing.T) {
	t.Parallel()
	rows := diffRows()
	var b strings.Builder
	fmt.Fprintf(&b, `# Where the hop differs from httputil.ReverseProxy

%d requests and responses, odd ones above all, are sent through this package and
through Go's net/http/httputil.ReverseProxy to the same server. What the function
sees and what the client gets must be the same, down to each header, but for the
facts below. The test fails on a difference that is not listed, and on a listed
one that is no more. It also writes this file:

    go test ./executor/reverseproxy -run TestDifferencesFile -update

| request or response | differs in | why |
|---|---|---|
`, len(rows))
	for _, row := range rows {
		for _, fact := range slices.Sorted(maps.Keys(row.accept)) {
			side, what, _ := strings.Cut(fact, " ")
			switch {
			case fact == "up seen":
				what = "whether the function sees it"
			case side == "up":
				what = "the function's view: " + what
			default:
				what = "the client's view: " + what
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", row.name, what, row.accept[fact])
		}
	}
	if *update {
		require.NoError(t, os.WriteFile("DIFFERENCES.md", []byte(b.String()), 0o644))
	}
	file, err := os.ReadFile("DIFFERENCES.md")
	require.NoError(t, err)
	require.Equal(t, b.String(), string(file), "run this test with -update")
}
