package config

import "strings"

// webhooks reads who signs requests to the function. A variable that has no
// effect is an error: where hmac_auth was forgotten, or belongs to another
// scheme, the function would be open, or closed to whom it is for.
func (e *env) webhooks(c *Watchdog) {
	c.HMACAuth = e.str("", "hmac_auth")
	switch c.HMACAuth {
	case "github", "stripe", "slack", "generic":
	case "":
		for _, name := range []string{"hmac_auth_secret_file", "hmac_auth_header", "hmac_auth_hash", "hmac_auth_max_body"} {
			if e.str("", name) != "" {
				e.bad("hmac_auth", "", "github, stripe, slack or generic, since "+name+" is set")
			}
		}
		return
	default:
		e.bad("hmac_auth", c.HMACAuth, "github, stripe, slack or generic")
		return
	}
	c.HMACMaxBody = e.integer(1<<20, 1, 64<<20, "hmac_auth_max_body")
	if c.HMACSecretFile = e.str("", "hmac_auth_secret_file"); c.HMACSecretFile == "" {
		e.bad("hmac_auth_secret_file", "", "a file with one secret a line, as in /var/openfaas/secrets/webhook")
	}
	c.HMACHeader, c.HMACHash = e.str("", "hmac_auth_header"), e.str("", "hmac_auth_hash")
	if c.HMACAuth != "generic" {
		if c.HMACHeader != "" {
			e.bad("hmac_auth_header", c.HMACHeader, "nothing: "+c.HMACAuth+" has its own")
		}
		if c.HMACHash != "" {
			e.bad("hmac_auth_hash", c.HMACHash, "nothing: "+c.HMACAuth+" has its own")
		}
		return
	}
	switch strings.ToLower(c.HMACHeader) {
	case "authorization", "connection", "content-length", "content-type", "cookie", "expect", "host", "trailer", "transfer-encoding", "user-agent":
		e.bad("hmac_auth_header", c.HMACHeader, "a header of its own, as in X-Signature")
	default:
		if !isToken(c.HMACHeader) {
			e.bad("hmac_auth_header", c.HMACHeader, "the name of the header with the signature, as in X-Signature")
		}
	}
	switch c.HMACHash {
	case "":
		c.HMACHash = "sha256"
	case "sha256", "sha512", "sha1", "md5":
	default:
		e.bad("hmac_auth_hash", c.HMACHash, "sha256, sha512, sha1 or md5")
	}
}
