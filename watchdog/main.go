package watchdog

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/config"
)

// Main is the whole fwatchdog program: it takes the arguments after the
// program's name and the environment, runs until SIGTERM or SIGINT, and returns
// the exit status. A second signal ends it at once. SIGHUP is for the watchdog
// alone, see [Watchdog.Reload]; the function does not hear it.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fwatchdog", flag.ContinueOnError)
	flags.SetOutput(stderr)
	version := flags.Bool("version", false, "print the version and exit")
	healthcheck := flags.Bool("run-healthcheck", false, "exit 0 if the lock file exists, else 1")
	if err := flags.Parse(args); err == flag.ErrHelp {
		return 0
	} else if err != nil {
		return 2
	}
	switch {
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "fwatchdog: unexpected argument %q; settings are environment variables\n", flags.Arg(0))
		return 2
	case *version:
		release, revision := config.Version()
		fmt.Fprintf(stdout, "Version: %s\tSHA: %s\n", release, revision)
		return 0
	case *healthcheck:
		if _, err := os.Stat(lockPath("")); err != nil {
			fmt.Fprintln(stderr, "unable to find lock file.")
			return 1
		}
		return 0
	}

	settings, err := config.ParseWatchdog(environ)
	if err != nil {
		fmt.Fprintf(stderr, "fwatchdog: %s\n", err)
		return 1
	}
	if err := run(Config{Settings: settings, Environ: environ, Stdout: stdout, Stderr: stderr}); err != nil {
		fmt.Fprintf(stderr, "fwatchdog: %s\n", err)
		return 1
	}
	return 0
}

// Serve is the main of a function in Go: it serves handler as fwatchdog would,
// with the same environment variables, but for fprocess, which nobody needs.
// It returns after SIGTERM or SIGINT, when everything has drained; a second
// signal ends it at once, and SIGHUP reloads keys. The error says what was wrong.
func Serve(handler http.Handler) error {
	return serve(Config{Handler: handler})
}

// ServeFast is [Serve] for a fasthttp handler. exec_timeout answers its client
// and cannot stop it; it does not learn that its client has left either.
func ServeFast(handler fasthttp.RequestHandler) error {
	return serve(Config{FastHandler: handler})
}

func serve(c Config) (err error) {
	environ := append([]string{"mode=" + string(config.InProc)}, os.Environ()...)
	if c.Settings, err = config.ParseWatchdog(environ); err != nil {
		return err
	}
	return run(c)
}

// run runs the watchdog until a signal comes.
func run(c Config) error {
	// Each signal is a round trip to a thread that has to be started first, so
	// the watchdog comes into being meanwhile.
	reload, signals, heard := make(chan os.Signal, 1), make(chan os.Signal, 2), make(chan struct{})
	go func() {
		signal.Notify(reload, syscall.SIGHUP) // which never comes on Windows
		signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
		close(heard)
	}()
	defer func() {
		<-heard
		signal.Stop(reload)
		signal.Stop(signals)
	}()
	w, err := New(c)
	if err != nil {
		return err
	}
	w.heard = heard
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for {
			select {
			case <-reload:
				w.Reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
			return
		}
		<-signals
		w.Close()
	}()
	return w.Run(ctx)
}
