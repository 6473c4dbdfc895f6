package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/url"
	"strings"
)

// apiKey is the one key of the server; only its hash is kept. The zero value means that no key is set.
type apiKey struct {
	set  bool
	hash [sha256.Size]byte
}

func newAPIKey(key string) apiKey {
	if key == "" {
		return apiKey{}
	}
	return apiKey{set: true, hash: sha256.Sum256([]byte(key))}
}

// is tells whether presented is the key, in a time that does not depend on where they differ.
func (k *apiKey) is(presented string) bool {
	h := sha256.Sum256([]byte(presented))
	return subtle.ConstantTimeCompare(h[:], k.hash[:]) == 1
}

// authenticate applies the rule of the call's route. It reads the header and the query, never the body.
func (s *Server) authenticate(c *call) error {
	if !s.key.set || c.route.auth == authNone {
		return nil
	}
	presented, found := "", false
	if c.route.auth == authProxy {
		presented, found = queryAuth(c.r.URL.RawQuery)
	}
	if !found {
		presented, found = bearerToken(c.r.Header["Authorization"])
	}
	if !found && c.route.auth == authQuery {
		presented, found = queryAuth(c.r.URL.RawQuery)
	}
	if !found && c.route.pattern == "/status" {
		return failField("auth", "The parameter auth is missing.") // as the original answers here
	}
	if !found {
		return fail(CodeUnauthorized, "This server wants an API key.")
	}
	if !s.key.is(presented) {
		return fail(CodeUnauthorized, "This is not the server's API key.")
	}
	return nil
}

// bearerToken returns the token of a single Authorization header with the scheme Bearer.
func bearerToken(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// queryAuth returns the parameter auth, if it is there exactly once.
func queryAuth(raw string) (string, bool) {
	if !strings.Contains(raw, "auth") {
		return "", false
	}
	q, err := url.ParseQuery(raw)
	if err != nil || len(q["auth"]) != 1 {
		return "", false
	}
	return q["auth"][0], true
}
