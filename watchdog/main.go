package watchdog

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/gatehound/gatehound/config"
)

// Main is the whole fwatchdog program: it takes the arguments after the
// program's name and the environment, runs until SIGTERM or SIGINT, and returns
// the exit status. A second signal ends it at once.
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
	w, err := New(Config{Settings: settings, Environ: environ, Stdout: stdout, Stderr: stderr})
	if err != nil {
		fmt.Fprintf(stderr, "fwatchdog: %s\n", err)
		return 1
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
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
	if err := w.Run(ctx); err != nil {
		fmt.Fprintf(stderr, "fwatchdog: %s\n", err)
		return 1
	}
	return 0
}
