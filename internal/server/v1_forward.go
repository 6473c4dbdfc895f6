package server

import (
	"net/http"
	"net/url"
	"strconv"
)

// Reverse proxies that guard a resource ask here, for each request, whether the fencing token that came with it is still good. They ask in
// ways of their own: nginx with GET and a body's length without a body, Traefik with GET, Envoy with the method of its
// client and the path behind a prefix. All pass on the headers of their clients, so that none of these proves anything about the
// proxy, except those that it sets itself.

const (
	headerToken = "Lock-Token"
	headerName  = "Lock-Name"
)

var errTokenMissing = fail(CodeTokenMissing, "Send the fencing token in the header Lock-Token, and the name of the lock in Lock-Name unless the proxy knows it.")

// forwardAuth answers requests for /v1/forward-auth, whose query is the proxy's.
func (s *Server) forwardAuth(c *call) error {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	switch names := q["name"]; {
	case len(names) > 1:
		return failField("name", "The parameter name is there more than once.")
	case len(names) == 1 && names[0] == "":
		return failField("name", "The parameter name must not be empty.")
	case len(names) == 1:
		return s.passFence(c, names[0])
	}
	for other := range q {
		if other != "auth" { // a name that was misspelt must not leave the choice to the proxy's client
			return failField("name", "The parameter name is missing, though there are others.")
		}
	}
	return s.passFence(c, "")
}

// forwardAuthBelow answers requests for what is below /v1/forward-auth. Path and query are those of the proxy's client, and mean
// nothing here.
func (s *Server) forwardAuthBelow(c *call) error { return s.passFence(c, "") }

// passFence answers 200 if the token of the headers is good for the lock that the proxy has named, or else for that of the headers.
func (s *Server) passFence(c *call, pinned string) error {
	c.leaveBody()
	text, err := headerValue(c, headerToken)
	if err != nil {
		return err
	}
	named, err := headerValue(c, headerName)
	if err != nil {
		return err
	}
	name := pinned
	if name == "" {
		name = named
	}
	if text == "" || name == "" {
		return errTokenMissing
	}
	if named != "" && named != name {
		return fail(CodeStaleToken, "The token is said to be of another lock than the one that guards this.")
	}
	token, err := parseToken(text)
	if err != nil {
		return fail(CodeStaleToken, "The header Lock-Token "+err.Error()+".")
	}
	asked := []fence{{name: name, token: token}}
	if err := s.verify(c, asked); err != nil {
		return err
	}
	if !asked[0].valid {
		return fail(CodeStaleToken, "The token "+strconv.FormatUint(token, 10)+" is not that of the newest hold of the lock, or that hold has ended.")
	}
	h := c.w.Header()
	h[headerName], h[headerToken] = []string{name}, []string{strconv.FormatUint(token, 10)}
	return c.answer(http.StatusOK, plainType, nil)
}
