package main

import (
	"errors"
	"os/exec"
	"runtime"
	"strings"
)

// openBrowser opens a page, without a shell, and does not wait for the browser.
func openBrowser(page string, getenv func(string) string) error {
	if !strings.HasPrefix(page, "https://") && !strings.HasPrefix(page, "http://") {
		return errors.New("this is no web page")
	}
	command := []string{"xdg-open", page}
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open", page}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler", page}
	default: // xdg-open would find that later, and nobody would hear of it
		if getenv("DISPLAY")+getenv("WAYLAND_DISPLAY")+getenv("BROWSER")+getenv("WSL_DISTRO_NAME") == "" {
			return errors.New("there is no display here")
		}
	}
	cmd := exec.Command(command[0], command[1:]...)
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}
