package local

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// limiter enforces memory limits by control groups, version 2, where the gateway
// has been given its own to divide: in a systemd unit with Delegate=memory, or a
// container that may write to it.
type limiter struct {
	once   sync.Once // for open
	dir    string    // our own cgroup
	reason error     // why it cannot be divided
	warned sync.Map  // functions
}

const cgroupRoot = "/sys/fs/cgroup"

// open readies our cgroup. It comes before the first function, whose processes
// would be others in there.
func (l *limiter) open() {
	l.once.Do(func() {
		own, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			l.reason = err
			return
		}
		l.dir, l.reason = divide(cgroupRoot, own, os.Getpid())
	})
}

// divide makes the cgroup that own (proc_pid_cgroup(5)) says we are in one with
// children that have a memory limit. A cgroup with such children can have no
// processes itself, so this one moves into a child, too.
func divide(root string, own []byte, pid int) (dir string, err error) {
	for line := range strings.SplitSeq(string(own), "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			dir = filepath.Join(root, path)
		}
	}
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if dir == "" || err != nil || !bytes.Contains(controllers, []byte("memory")) {
		return "", errors.New("this process is in no cgroup v2 with the memory controller")
	}
	members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(string(members)) != strconv.Itoa(pid) {
		return "", fmt.Errorf("the cgroup %s has other processes than the gateway: start it in one of its own, as a systemd unit with Delegate=memory is", dir)
	}
	self := filepath.Join(dir, "gateway")
	if err := os.Mkdir(self, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(self, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0o644)
}

// group makes a cgroup with a limit of memory bytes; nil = without limits. log
// is the function's, and warned once of one that cannot be enforced.
func (l *limiter) group(name string, memory int64, log zerolog.Logger, function string) (*group, error) {
	if memory == 0 {
		return nil, nil
	}
	l.open()
	if l.reason != nil {
		if _, before := l.warned.LoadOrStore(function, true); !before {
			log.Warn().Msgf("its memory limit is shown and not enforced: %v", l.reason)
		}
		return nil, nil
	}
	g := &group{path: filepath.Join(l.dir, "function-"+name)}
	g.remove() // of a gateway that was killed
	if err := os.Mkdir(g.path, 0o755); err != nil {
		return nil, fmt.Errorf("memory limit: %w", err)
	}
	err := os.WriteFile(filepath.Join(g.path, "memory.max"), []byte(strconv.FormatInt(memory, 10)), 0o644)
	if err == nil {
		// Without it, what is too much would be swapped out. Not all kernels have it.
		_ = os.WriteFile(filepath.Join(g.path, "memory.swap.max"), []byte("0"), 0o644)
		g.dir, err = os.Open(g.path)
	}
	if err != nil {
		g.remove()
		return nil, fmt.Errorf("memory limit: %w", err)
	}
	return g, nil
}

// group is one replica's cgroup; nil = none.
type group struct {
	path string
	dir  *os.File
}

// join has cmd start in the cgroup.
func (g *group) join(cmd *exec.Cmd) {
	if g != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(g.dir.Fd())
	}
}

// remove ends what is left in the cgroup and removes it.
func (g *group) remove() {
	if g == nil {
		return
	}
	if g.dir != nil {
		g.dir.Close()
	}
	_ = os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0o644)
	for range 50 { // the kernel takes a moment
		if err := os.Remove(g.path); err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
