package server

import (
	"context"
	"net"
	"net/http"

	"github.com/doubledutch-lock/doubledutch/internal/plainhttp"
)

// plainFirst has the plain requests of ln's connections answered without net/http, which is most of what they cost otherwise.
func (s *Server) plainFirst(ln net.Listener) net.Listener {
	if !seesHangups {
		return ln
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plain = plainhttp.Listen(ln, plainhttp.Config{
		Serve: s.servePlain, Context: plainContext, FirstTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, WriteTimeout: deliverTimeout,
	})
	return s.plain
}

// plainContext returns the context for plain requests. Only connections whose end can be seen while nobody reads are served so.
func plainContext(conn net.Conn) context.Context {
	if c, ok := conn.(*limitedConn); !ok || c.raw == nil {
		return nil
	}
	return withConn(context.Background(), conn)
}

// servePlain answers a request, unless it may be answered with a stream.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) bool {
	c := newCall(w, r)
	rt, st, e := s.router.find(r, &c.params)
	if rt != nil && rt.streams {
		c.free()
		return false
	}
	s.serve(c, rt, st, e)
	return true
}

// shutdownPlain ends what plainFirst has begun.
func (s *Server) shutdownPlain(ctx context.Context) error {
	s.mu.Lock()
	plain := s.plain
	s.mu.Unlock()
	if plain == nil {
		return nil
	}
	return plain.Shutdown(ctx)
}
