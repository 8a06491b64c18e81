module github.com/openfaas/faas/gateway

go 1.26.0

require github.com/openfaas/faas-provider v0.25.12
