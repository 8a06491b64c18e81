package basicauth

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	basic := func(s string) []byte { return []byte("Basic " + base64.StdEncoding.EncodeToString([]byte(s))) }
	c := Credentials{user: "admin", password: "p:w"}
	require.True(t, c.Match([][]byte{basic("admin:p:w")}))
	require.True(t, c.Match([][]byte{[]byte("bASIC" + string(basic("admin:p:w")[5:]))}))
	for name, values := range map[string][][]byte{
		"none":           nil,
		"twice":          {basic("admin:p:w"), basic("admin:p:w")},
		"wrong password": {basic("admin:p")},
		"wrong user":     {basic("root:p:w")},
		"empty":          {basic("")},
		"bearer":         {[]byte("Bearer p:w")},
		"two spaces":     {[]byte("Basic  " + string(basic("admin:p:w")[6:]))},
	} {
		require.False(t, c.Match(values), name)
	}
	require.False(t, Credentials{}.Match([][]byte{basic(":")}), "the zero value matches nobody")
	require.NotContains(t, c.String()+c.GoString(), "p:w")
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "secrets")
	_, err := Read(dir, false)
	require.ErrorContains(t, err, "basic-auth-password")
	first, err := Read(dir, true)
	require.NoError(t, err)
	require.Equal(t, "admin", first.User())
	require.GreaterOrEqual(t, len(first.Password()), 20)
	again, err := Read(dir, true)
	require.NoError(t, err)
	require.Equal(t, first, again)

	require.NoError(t, os.WriteFile(filepath.Join(dir, userFile), []byte("a:b\n"), 0o600))
	_, err = Read(dir, true)
	require.ErrorContains(t, err, "without a colon")

	// What is no secret is refused, and neither waited for nor read into memory.
	path := filepath.Join(dir, passwordFile)
	for _, c := range []struct {
		put  func() error
		want string
	}{
		{func() error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		{func() error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		{func() error { return os.Symlink("/dev/zero", path) }, "not a regular file"},
		{func() error { return os.WriteFile(path, bytes.Repeat([]byte("x"), maxFile+1), 0o600) }, "longer than 4096 bytes"},
	} {
		require.NoError(t, os.RemoveAll(path))
		require.NoError(t, c.put())
		_, err = Read(dir, false)
		require.ErrorContains(t, err, c.want)
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	c := New("Aladdin", "open sesame")
	require.Equal(t, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", c.Header(), "the example of RFC 7617")
	require.True(t, c.Match([][]byte{[]byte(c.Header())}))
}

// mount fills a folder as Kubernetes does: the files are links through ..data,
// which is swapped.
func mount(t *testing.T, dir, version, user, password string) {
	t.Helper()
	require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, version, userFile), []byte(user), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, version, passwordFile), []byte(password), 0o600))
	require.NoError(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	for _, name := range []string{userFile, passwordFile} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); !os.IsExist(err) {
			require.NoError(t, err)
		}
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Follow(FollowConfig{Dir: dir})
	require.ErrorContains(t, err, passwordFile)
	mount(t, dir, "1", "admin", "first")
	synctest.Test(t, func(t *testing.T) {
		lines := make(chan string, 100)
		logf := func(format string, args ...any) { lines <- fmt.Sprintf(format, args...) }
		said := func() (all []string) {
			for len(lines) > 0 {
				all = append(all, <-lines)
			}
			for _, line := range all {
				require.NotRegexp(t, "first|second|third", line)
			}
			return all
		}
		f, err := Follow(FollowConfig{Dir: dir, Logf: logf, Warnf: logf})
		require.NoError(t, err)
		require.Equal(t, New("admin", "first"), f.Current())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.Run(ctx)
		}()
		wait := func() {
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}

		wait()
		require.Empty(t, said())
		mount(t, dir, "2", "admin", "second")
		wait()
		require.Equal(t, New("admin", "second"), f.Current())
		require.Len(t, said(), 1)

		// The good ones stay while the new ones are not.
		mount(t, dir, "3", "admin", " \n")
		for range 3 {
			wait()
		}
		require.Equal(t, New("admin", "second"), f.Current())
		again := said()
		require.Len(t, again, 1, "it is said once")
		require.Contains(t, again[0], "those read before stay in use")
		require.NoError(t, os.Remove(filepath.Join(dir, "..data")))
		wait()
		require.Equal(t, New("admin", "second"), f.Current())
		require.Len(t, said(), 1)
		require.NoError(t, os.Symlink("2", filepath.Join(dir, "..data")))
		wait()
		require.Len(t, said(), 1, "that they can be read again")

		// Half of a change is not taken: one file is new for a moment.
		require.NoError(t, os.WriteFile(filepath.Join(dir, "2", userFile), []byte("root"), 0o600))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, New("admin", "second"), f.Current())
		require.NoError(t, os.WriteFile(filepath.Join(dir, "2", passwordFile), []byte("third"), 0o600))
		wait()
		require.Equal(t, New("root", "third"), f.Current())
		require.Len(t, said(), 1)
		cancel()
		<-ended
	})
}
