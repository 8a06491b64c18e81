package kubernetes

import (
	"errors"
	"fmt"
	"path/filepath"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Connect returns a client for the cluster that the files in kubeconfig, a
// list as in KUBECONFIG, name; empty = the one in a pod of which this process
// runs. It does not reach for the cluster yet: the error is for a configuration
// that is missing or wrong.
func Connect(kubeconfig string) (dynamic.Interface, error) {
	config, err := configure(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "gatehound"
	config.WarningHandler = rest.NoWarnings{} // they go to standard error as they are
	return dynamic.NewForConfig(config)
}

func configure(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("this process runs in no pod: set KUBECONFIG to a kubeconfig file")
		}
		return config, err
	}
	rules := clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(kubeconfig)}
	loaded, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	config, err := clientcmd.NewDefaultClientConfig(*loaded, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG=%q: %w", kubeconfig, err)
	}
	return config, nil
}
