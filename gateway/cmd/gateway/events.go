package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/gateway"
	"github.com/gatehound/gatehound/gateway/events"
)

// recorded are the events in use.
type recorded struct {
	auditing *gateway.Auditing // nil = off
	metering *gateway.Metering // nil = off
}

// openEvents opens what settings ask for, in data_dir, which is locked: a spool is
// for one process.
func openEvents(settings config.Gateway, log zerolog.Logger) (recorded, error) {
	c := settings.Events
	if !c.Auditing && !c.Metering {
		return recorded{}, nil
	}
	to, err := destination(settings)
	if err != nil {
		return recorded{}, err
	}
	open := func(eventType string, keepAll bool) (*events.Outbox, error) {
		return events.Open(events.Config{
			Type: eventType, Dir: filepath.Join(settings.DataDir, "events", eventType), To: to, KeepAll: keepAll,
			MaxBytes: c.SpoolBytes, BatchEvents: c.Batch, BatchWait: c.BatchWait,
			Logf: logAt(log, zerolog.InfoLevel), Warnf: logAt(log, zerolog.WarnLevel),
		})
	}
	var r recorded
	if c.Auditing {
		outbox, err := open(types.TypeAPIAccess, c.AuditingMandatory)
		if err != nil {
			return recorded{}, err
		}
		r.auditing = &gateway.Auditing{Outbox: outbox, Verbs: c.AuditingVerbs}
	}
	if c.Metering {
		outbox, err := open(types.TypeFunctionUsage, false)
		if err != nil {
			return recorded{}, err
		}
		r.metering = &gateway.Metering{Outbox: outbox, Exclude: c.MeteringExclude, DefaultMemory: c.MeteringDefaultRAM}
	}
	return r, nil
}

func destination(settings config.Gateway) (events.Destination, error) {
	c := settings.Events
	switch {
	case c.URL != nil:
		client, err := exchange.NewClient(exchange.ClientConfig{CABundle: settings.CABundlePath})
		if err != nil {
			return nil, fmt.Errorf("ca_bundle_path: %w", err)
		}
		webhook, err := events.NewWebhook(events.WebhookConfig{URL: c.URL, SecretFile: c.SecretFile, Client: client, Timeout: c.Timeout})
		if err != nil {
			return nil, fmt.Errorf("events_secret_file: %w", err)
		}
		return webhook, nil
	case c.File == "-":
		stdout, err := duplicate(os.Stdout)
		if err != nil {
			return nil, fmt.Errorf("events_file: stdout: %w", err)
		}
		return events.NewStream(stdout), nil
	default:
		return &events.File{Path: c.File}, nil
	}
}

// duplicate returns f under another number. Under its own, Go ends the process
// when stdout's reader has gone (SIGPIPE).
func duplicate(f *os.File) (*os.File, error) {
	syscall.ForkLock.RLock() // functions must not inherit it
	defer syscall.ForkLock.RUnlock()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// run delivers until ctx ends, and then for a moment what is left.
func (r recorded) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	if r.auditing != nil {
		running.Go(func() { r.auditing.Outbox.Run(ctx) })
	}
	if r.metering != nil {
		running.Go(func() { r.metering.Outbox.Run(ctx) })
	}
}
