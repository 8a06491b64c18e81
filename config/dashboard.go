package config

import (
	"slices"
	"strings"
)

// dashboard reads what the gateway's pages for people need.
func (e *env) dashboard(c *Gateway) {
	c.Dashboard = e.boolean(true, "dashboard")
	if u := e.httpURL("primary_issuer"); u != nil {
		if u.RawQuery != "" || u.Fragment != "" {
			e.bad("primary_issuer", u.String(), "a URL without a query or fragment")
		}
		// As it is written: it must equal the provider's own name for itself, and
		// some end with a slash.
		c.PrimaryIssuer = e.str("", "primary_issuer")
	}
	c.OAuthClientID = e.str("", "oauth_client_id")
	c.OAuthClientSecretFile = e.str("", "oauth_client_secret_file")
	c.OAuthScopes = strings.FieldsFunc(e.str("openid profile email", "oauth_scopes"), func(r rune) bool { return r == ' ' || r == ',' })
	if !slices.Contains(c.OAuthScopes, "openid") {
		e.bad("oauth_scopes", e.values["oauth_scopes"], "openid among them, as in: openid profile email")
	}
	_, _, given := e.lookup("primary_issuer")
	switch {
	case given && c.OAuthClientID == "":
		e.bad("oauth_client_id", "", "the name by which the provider of primary_issuer knows the dashboard")
	case !given && c.OAuthClientID != "":
		e.bad("primary_issuer", "", "the URL of the OpenID provider that oauth_client_id is a client of")
	case !given && c.OAuthClientSecretFile != "":
		e.bad("oauth_client_secret_file", c.OAuthClientSecretFile, "nothing without primary_issuer")
	}
	if c.PublicURL = e.httpURL("public_url"); c.PublicURL != nil {
		if u := c.PublicURL; strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			e.bad("public_url", u.String(), "a scheme and a host alone, as in https://gateway.example.com: the dashboard is at /ui/ there")
		}
	}
}
