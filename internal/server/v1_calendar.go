package server

import (
	"net/http"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// setCalendar answers POST /v1/cluster/calendar.
func (s *Server) setCalendar(c *call) error {
	out, err := s.backend.SetCalendar(c.lasting(), true)
	if err != nil {
		return backendError(c.lasting(), err)
	}
	if out.Code != locktable.Done {
		return refusal(&out)
	}
	at, _, err := s.readCalendar(c)
	if err != nil {
		return err
	}
	s.log.Warn("the calendar was set by request", "calendar", at, "remote", c.r.RemoteAddr)
	b := append(c.buf[:0], `{"calendar":"`...)
	c.buf = append(at.AppendFormat(b, dayFormat), '"', '}')
	return c.json(http.StatusOK)
}
