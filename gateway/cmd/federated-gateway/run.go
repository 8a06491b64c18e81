package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/federated"
	"github.com/gatehound/gatehound/gateway/program"
)

// run serves until SIGINT, SIGTERM or SIGHUP, and then until the calls that run
// are done. A second signal ends it at once.
func run(environ []string) error {
	settings, err := config.ParseFederated(environ)
	if err != nil {
		return err
	}
	log := program.NewLogger(os.Stderr, settings.LogJSON, settings.Debug)
	logAt := func(level zerolog.Level) func(string, ...any) {
		return func(format string, args ...any) { log.WithLevel(level).Msgf(format, args...) }
	}
	signalled, stopSignals := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stopSignals()
	context.AfterFunc(signalled, func() {
		stopSignals() // before it is said that a second one works
		log.Info().Msg("stopping; a second signal stops at once")
	})

	credentials, err := basicauth.Follow(basicauth.FollowConfig{
		Dir: settings.SecretMountPath, Logf: logAt(zerolog.InfoLevel), Warnf: logAt(zerolog.WarnLevel),
	})
	if err != nil {
		return fmt.Errorf("secret_mount_path: %w", err)
	}
	if settings.InsecureTLS {
		log.Warn().Msg("insecure_tls=true: the provider's certificate is not checked, so whoever is between it and this gateway " +
			"can give it keys and sign in as anybody; for a private CA set ca_bundle_path instead")
	}
	client, err := exchange.NewClient(exchange.ClientConfig{CABundle: settings.CABundlePath, Insecure: settings.InsecureTLS})
	if err != nil {
		return fmt.Errorf("ca_bundle_path: %w", err)
	}
	keys, err := jwks.NewRemote(jwks.Config{
		Authority: settings.Issuer, Issuer: settings.Issuer, Client: client,
		Logf: logAt(zerolog.InfoLevel), Warnf: logAt(zerolog.WarnLevel),
	})
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	address := settings.Gateway.Host
	if settings.Gateway.Port() == "" {
		address = net.JoinHostPort(settings.Gateway.Hostname(), "80")
	}
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: address})
	defer upstream.Close()
	gateway := federated.New(federated.Config{
		Upstream:        upstream,
		Host:            settings.Gateway.Host,
		Credentials:     credentials.Current,
		Keys:            keys,
		Audience:        settings.Audience,
		AllowInvoke:     settings.AllowInvoke,
		ReadTimeout:     settings.ReadTimeout,
		DrainTimeout:    settings.WriteTimeout,
		UpstreamTimeout: settings.UpstreamTimeout,
		Log:             log,
	})

	listener, err := reverseproxy.Listen("tcp", settings.Address, settings.WriteTimeout)
	if err != nil {
		return program.ListenError(err, settings.Address, "port or listen")
	}
	defer listener.Close()
	listener.Logf = logAt(zerolog.ErrorLevel)
	closeMetrics, err := program.ServeMetrics(settings.MetricsAddress, gateway.MetricsHandler())
	if err != nil {
		return err
	}
	defer closeMetrics()

	background, endBackground := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { keys.Run(background) })
	running.Go(func() { credentials.Run(background) })
	log.Info().Msgf("listening on http://%s, in front of %s, for tokens of %s with the audience %s",
		listener.Addr(), settings.Gateway, settings.Issuer, settings.Audience)
	err = gateway.Serve(signalled, listener)
	endBackground()
	running.Wait()
	return err
}
