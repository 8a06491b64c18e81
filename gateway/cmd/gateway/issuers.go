package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/exchange"
)

// issuersClient returns what fetches the keys of trusted issuers.
func issuersClient(settings config.Gateway, log zerolog.Logger) (*http.Client, error) {
	if settings.InsecureTLS {
		log.Warn().Msg("insecure_tls=true: certificates of issuers are not checked, so whoever is between them and this gateway " +
			"can give it keys and sign in as anybody; for a private CA set ca_bundle_path instead")
	}
	client, err := exchange.NewClient(exchange.ClientConfig{CABundle: settings.CABundlePath, Insecure: settings.InsecureTLS})
	if err != nil {
		return nil, fmt.Errorf("ca_bundle_path: %w", err)
	}
	return client, nil
}

// serviceAccount is where Kubernetes mounts a pod's own token.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// cluster returns the cluster in a pod of which we run; nil = none, or one that
// gives us no token (automountServiceAccountToken: false).
func cluster(settings config.Gateway, dir string) *exchange.Cluster {
	if settings.KubernetesAddress == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "token")); err != nil {
		return nil
	}
	return &exchange.Cluster{Address: settings.KubernetesAddress, Dir: dir}
}
