package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

const maxSecret = 1 << 20 // bytes

var errTooLong = fmt.Errorf("there are more than %d bytes", maxSecret)

// readClientSecret reads the secret that --client-secret-file names, once.
func (l *session) readClientSecret(ctx context.Context) error {
	file := l.settings.ClientSecretFile
	if l.secret != "" || file == "" {
		return nil
	}
	secret, err := l.readSecret(ctx, "Client secret", file)
	if err != nil {
		return fmt.Errorf("--client-secret-file: %w", err)
	}
	if secret == "" { // we would log in as a public client, and be told something else
		return fmt.Errorf("--client-secret-file: there is no secret in %s", file)
	}
	l.secret = secret
	return nil
}

// readSecret returns what is in a file; "-" is stdin. At a terminal it asks for
// what, and does not show what is typed.
func (p program) readSecret(ctx context.Context, what, file string) (string, error) {
	stdin, _ := p.stdin.(*os.File)
	switch {
	case file != "-" && isDevice(file): // /dev/tty, /dev/stdin
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if isTerminal(f) {
			return p.readTyped(ctx, what, f)
		}
	case file == "-" && isTerminal(stdin):
		return p.readTyped(ctx, what, stdin)
	}
	return await(ctx, func() (string, error) { // a pipe may never come to its end
		in := p.stdin
		if file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return "", err
			}
			defer f.Close()
			in = f
		}
		text, err := io.ReadAll(io.LimitReader(in, maxSecret+1))
		if len(text) > maxSecret {
			return "", errTooLong
		}
		return strings.TrimSpace(string(text)), err
	})
}

func isDevice(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func isTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// readTyped reads a line that is typed, or pasted, key by key: a terminal's own lines
// are cut at 4095 bytes, on some systems at 1024, and tokens are longer.
func (p program) readTyped(ctx context.Context, what string, terminal *os.File) (string, error) {
	before, err := term.MakeRaw(int(terminal.Fd()))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(p.stderr, "%s (it is not shown): ", what)
	defer func() { // also at a Ctrl-C: the shell must show again what is typed
		_ = term.Restore(int(terminal.Fd()), before)
		p.say("")
	}()
	return await(ctx, func() (string, error) { return readLine(terminal) })
}

// Keys that a raw terminal leaves to us.
const (
	keyInterrupt = 3   // Ctrl-C
	keyEnd       = 4   // Ctrl-D
	keyBackspace = 127 // or 8
	keyKill      = 21  // Ctrl-U
)

func readLine(terminal io.Reader) (string, error) {
	in := bufio.NewReader(terminal)
	var line []byte
	for len(line) < maxSecret {
		b, err := in.ReadByte()
		switch {
		case errors.Is(err, io.EOF), err == nil && (b == '\r' || b == '\n' || b == keyEnd):
			return strings.TrimSpace(string(line)), nil
		case err != nil:
			return "", err
		case b == keyInterrupt:
			return "", errInterrupted
		case b == keyBackspace || b == '\b':
			_, size := utf8.DecodeLastRune(line)
			line = line[:len(line)-size]
		case b == keyKill:
			line = nil
		case b < ' ': // no part of a secret
		default:
			line = append(line, b)
		}
	}
	return "", errTooLong
}

// await returns what read returns, or when ctx ends an error: read then goes on alone.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
