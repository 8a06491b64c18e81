//go:build unix

package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBrowser: it gets the page as one argument, and no Ctrl-C of ours.
func TestBrowser(t *testing.T) {
	u := newUser(t)
	t.Setenv("PATH", u.home+":"+os.Getenv("PATH"))
	shown := filepath.Join(u.home, "shown")
	script := fmt.Sprintf("#!/bin/sh\necho $$ $# \"$1\" > %s.new; mv %[1]s.new %[1]s; read forever < %s\n", shown, filepath.Join(u.home, "fifo"))
	require.NoError(t, os.WriteFile(filepath.Join(u.home, "xdg-open"), []byte(script), 0o700))
	require.NoError(t, syscall.Mkfifo(filepath.Join(u.home, "fifo"), 0o600))
	getenv := func(name string) string { return map[string]string{"DISPLAY": ":0"}[name] }
	page := "https://idp.example.com/a?" + url.Values{"x": {"$(id);`id`&'\""}}.Encode() + "&y=$(touch+z)"
	require.NoError(t, openBrowser(page, getenv))
	var text []byte
	require.Eventually(t, func() (ok bool) { text, _ = os.ReadFile(shown); return len(text) > 0 }, 10*time.Second, time.Millisecond)
	fields := strings.Fields(string(text))
	require.Equal(t, []string{"1", page}, fields[1:])
	pid, err := strconv.Atoi(fields[0])
	require.NoError(t, err)
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	require.Equal(t, pid, group)
	require.NoError(t, os.WriteFile(filepath.Join(u.home, "fifo"), []byte("end\n"), 0o600))

	require.EqualError(t, openBrowser("file:///bin/sh", getenv), "this is no web page")
	require.EqualError(t, openBrowser(page, func(string) string { return "" }), "there is no display here")
}
