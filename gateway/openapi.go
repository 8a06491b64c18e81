package gateway

import (
	_ "embed"

	"github.com/valyala/fasthttp"
	"sigs.k8s.io/yaml"
)

// openAPI describes everything the gateway answers, for people and for their
// tools: a route that is added or changed is so here, too.
//
//go:embed openapi.yaml
var openAPI []byte

func openAPIJSON() []byte {
	converted, err := yaml.YAMLToJSON(openAPI)
	if err != nil {
		panic(err) // it is part of this program, and tested
	}
	return converted
}

func describeAPI(contentType string, description []byte) func(*fasthttp.RequestCtx, string) {
	return func(ctx *fasthttp.RequestCtx, _ string) {
		ctx.Response.Header.SetContentType(contentType)
		ctx.Response.SetBody(description)
	}
}
