package auth

// UnverifiedClaims returns what a compact JWS claims, without any look at its
// signature: to explain a decision, never to make one. The error is
// ErrInvalidToken, wrapped, and holds nothing of the token.
func UnverifiedClaims(token []byte) (Claims, error) {
	t, err := parseCompact(token)
	if err != nil {
		return nil, err
	}
	return decodeObject(t.payload, maxClaimsValues)
}

// DecodeClaims reads claims from JSON as they are read from a token, with the
// same errors.
func DecodeClaims(data []byte) (Claims, error) { return decodeObject(data, maxClaimsValues) }

// Check compares c with x, as ParseToken does once a signature is verified.
func (c Claims) Check(x Expect) error {
	_, err := c.check(x)
	return err
}
