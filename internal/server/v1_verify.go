package server

import (
	"math"
	"net/http"
	"strconv"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// verifyBody is the body of POST /v1/verify.
type verifyBody struct {
	name  string
	token uint64
}

var verifyMembers = []member[verifyBody]{
	set("name", readNonEmpty, func(b *verifyBody) *string { return &b.name }),
	set("token", readToken, func(b *verifyBody) *uint64 { return &b.token }),
}

// verifyToken answers POST /v1/verify: whether the token is that of the newest grant of the lock, and still held.
func (s *Server) verifyToken(c *call) error {
	var body verifyBody
	if err := readBody(c, &body, verifyMembers); err != nil {
		return err
	}
	switch {
	case body.name == "":
		return failField("name", "The member name is missing.")
	case body.token == 0:
		return failField("token", "The member token is missing.")
	}
	if err := s.checkName(c.lasting(), body.name); err != nil {
		return err
	}
	valid := false
	err := s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) {
		l, _ := t.Lock(body.name, math.MaxInt)
		valid = newestIs(l.Holders, body.token, now)
	})
	if err != nil {
		return backendError(c.lasting(), err)
	}
	b := append(c.buf[:0], `{"valid":`...)
	c.buf = append(strconv.AppendBool(b, valid), '}')
	return c.json(http.StatusOK)
}

// newestIs tells whether token is the greatest one of the holds that last.
func newestIs(holders []locktable.HolderInfo, token uint64, now locktable.Time) bool {
	var newest uint64
	for i := range holders {
		if holders[i].Deadline > now {
			newest = max(newest, holders[i].Token)
		}
	}
	return newest == token
}
