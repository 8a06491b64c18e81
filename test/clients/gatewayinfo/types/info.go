// Package types stands in for what faas-cli takes from OpenFaaS' gateway, which
// is under another licence: the one type that it decodes /system/info into.
package types

import "github.com/openfaas/faas-provider/types"

// GatewayInfo is what the gateway says of itself and of its provider.
type GatewayInfo struct {
	Provider *types.ProviderInfo `json:"provider"`
	Version  *types.VersionInfo  `json:"version"`
	Arch     string              `json:"arch"`
}
