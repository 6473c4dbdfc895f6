package server

import (
	"net"
	"net/netip"
	"strings"
)

// guard refuses what a browser may have been talked into sending. The seed interface changes state by GET, so the usual
// defences of web servers against other sites' pages are not enough here.
func (s *Server) guard(c *call) error {
	if c.route.auth == authNone {
		return nil
	}
	if v := c.r.Header["Sec-Fetch-Site"]; len(v) > 0 && v[0] == "cross-site" && !c.route.linkable {
		return fail(CodeCrossSite, "A page of another web site made this request; it is refused.")
	}
	if s.checkHost && !s.hostAllowed(c.r.Host) {
		return fail(CodeWrongHost, "This server answers for localhost only; start it with the host name allowed, or with an API key.")
	}
	return nil
}

// hostAllowed is the defence against DNS rebinding: a page of evil.example whose name was made to point at the loopback
// address still sends its own name. A request without a Host comes from no browser.
func (s *Server) hostAllowed(hostport string) bool {
	if hostport == "" {
		return true
	}
	host := strings.TrimSuffix(strings.ToLower(hostOnly(hostport)), ".")
	if isLoopbackName(host) {
		return true
	}
	for _, h := range s.allowedHosts {
		if h == host {
			return true
		}
	}
	return false
}

// isLoopbackName tells whether host is localhost, a name below it, or a loopback address.
func isLoopbackName(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func hostOnly(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
}
