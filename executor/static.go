package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"syscall"
)

// NewStatic returns static mode: net/http's file server over the folder root,
// dotfiles and listings included, which upstream serves too. Unlike upstream's
// it does not follow links out of root. The error says what is wrong with root.
func NewStatic(c Config, root string) (*Handler, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("static_path: want a folder to serve: %w", err)
	}
	return NewHandler(c, http.FileServerFS(confined{r.FS()})), nil
}

// confined says of names that lead out of the root, or that no file can have,
// that there is no such file: 404 and not 500.
type confined struct{ fs.FS }

func (c confined) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err == nil {
		return f, nil
	}
	for _, ours := range []error{fs.ErrPermission, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO} {
		if errors.Is(err, ours) {
			return nil, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
