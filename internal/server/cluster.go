package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// The routes below /v1/cluster are for operators. A single server answers them as well: as a cluster of one.

// showCluster answers GET /v1/cluster with what this node knows, also when there is no majority.
func (s *Server) showCluster(c *call) error {
	hash, err := wantsStateHash(c)
	if err != nil {
		return err
	}
	members := s.backend.Members(c.ctx())
	if c.ctx().Err() != nil {
		return errGone
	}
	if members == nil {
		return errNoTable
	}
	c.buf = appendCluster(c.buf[:0], s.backend.Status(), members)
	if hash {
		c.buf = append(s.appendStateHash(c.buf[:len(c.buf)-1]), '}')
	}
	return c.json(http.StatusOK)
}

func appendCluster(b []byte, st node.Status, members []node.MemberStatus) []byte {
	name, leader := "", ""
	for i := range members {
		if members[i].Self {
			name = members[i].Name
		}
		if members[i].Leader {
			leader = members[i].Name
		}
	}
	b = append(b, `{"cluster_id":`...)
	b = appendString(b, st.ClusterID)
	b = append(b, `,"name":`...)
	b = appendString(b, name)
	if leader != "" {
		b = append(b, `,"leader":`...)
		b = appendString(b, leader)
	}
	b = append(b, `,"volatile":`...)
	b = strconv.AppendBool(b, st.Volatile)
	b = append(b, `,"applied_index":`...)
	b = strconv.AppendUint(b, st.AppliedIndex, 10)
	b = append(b, `,"level":`...)
	b = strconv.AppendUint(b, uint64(st.Level), 10)
	b = append(b, `,"members":[`...)
	for i := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMember(b, &members[i])
	}
	return append(b, "]}"...)
}

// appendMember leaves out what only the member itself could have told, if it did not answer.
func appendMember(b []byte, m *node.MemberStatus) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, m.Name)
	b = append(b, `,"address":`...)
	b = appendString(b, m.Address)
	b = append(b, `,"voter":`...)
	b = strconv.AppendBool(b, m.Voter)
	b = append(b, `,"leader":`...)
	b = strconv.AppendBool(b, m.Leader)
	b = append(b, `,"reachable":`...)
	b = strconv.AppendBool(b, m.Reachable)
	if m.Reachable {
		b = append(b, `,"applied_index":`...)
		b = strconv.AppendUint(b, m.AppliedIndex, 10)
		b = append(b, `,"last_contact":`...)
		b = appendMillis(b, m.LastContact)
		b = append(b, `,"disk_full":`...)
		b = strconv.AppendBool(b, m.DiskFull)
		b = append(b, `,"version":`...)
		b = appendString(b, m.Version)
		b = append(b, `,"knows_level":`...)
		b = strconv.AppendUint(b, uint64(m.Knows), 10)
	}
	return append(b, '}')
}

// membersBody is the body of POST /v1/cluster/members: it adds a node, or promotes one.
type membersBody struct{ add, address, promote string }

var membersMembers = []member[membersBody]{
	set("add", readString, func(b *membersBody) *string { return &b.add }),
	set("address", readString, func(b *membersBody) *string { return &b.address }),
	set("promote", readString, func(b *membersBody) *string { return &b.promote }),
}

// changeMember answers POST /v1/cluster/members.
func (s *Server) changeMember(c *call) error {
	var body membersBody
	if err := readBody(c, &body, membersMembers); err != nil {
		return err
	}
	switch {
	case body.add != "" && body.promote != "":
		return failField("promote", "The members add and promote exclude each other.")
	case body.add != "":
		return s.addMember(c, &body)
	case body.address != "":
		return failField("address", "The member address goes with add, the name of the node that waits there.")
	case body.promote != "":
		return s.changeCluster(c, "promoted", body.promote, s.backend.Promote)
	}
	return failField("promote", "One of the members add and promote is needed; it names a node.")
}

// addMember takes a node in that waits for it.
func (s *Server) addMember(c *call, body *membersBody) error {
	if body.address == "" {
		return failField("address", "The member address is missing; it says where the other nodes reach the new one.")
	}
	if err := node.CheckAddress(body.address); err != nil {
		return failField("address", sentence(err.Error()))
	}
	return s.changeCluster(c, "added", body.add, func(name string) error { return s.backend.Add(name, body.address) })
}

// removeMember answers DELETE /v1/cluster/members/{name}.
func (s *Server) removeMember(c *call) error {
	return s.changeCluster(c, "removed", c.params[0], s.backend.Remove)
}

// transferBody is the body of POST /v1/cluster/transfer.
type transferBody struct{ to string }

var transferMembers = []member[transferBody]{
	set("to", readString, func(b *transferBody) *string { return &b.to }),
}

// transferLeadership answers POST /v1/cluster/transfer. Without a name, the node that is most up to date gets to lead.
func (s *Server) transferLeadership(c *call) error {
	var body transferBody
	if err := readBody(c, &body, transferMembers); err != nil {
		return err
	}
	if body.to == "" {
		return s.change(c, "transferred", s.backend.Transfer, "")
	}
	return s.changeCluster(c, "transferred", body.to, s.backend.Transfer)
}

// changeCluster makes a change that concerns the node of that name.
func (s *Server) changeCluster(c *call, done, name string, change func(name string) error) error {
	if err := node.CheckName(name); err != nil {
		return failField("name", sentence(err.Error()))
	}
	return s.change(c, done, change, name)
}

// change makes a change of the cluster and says in the member done that it was made.
func (s *Server) change(c *call, done string, change func(name string) error, name string) error {
	if err := change(name); err != nil {
		return clusterError(c.ctx(), err)
	}
	s.log.Info("the cluster was changed by request", "change", done, "node", name)
	b := append(c.buf[:0], `{"`...)
	b = append(b, done...)
	c.buf = append(b, `":true}`...)
	return c.json(http.StatusOK)
}

// clusterError is backendError for changes of the cluster, whose refusals are sentences for people.
func clusterError(ctx context.Context, err error) error {
	var refused *node.RefusedError
	switch {
	case errors.As(err, &refused):
		return &Error{Code: CodeRefused, Detail: sentence(refused.Sentence), cause: err}
	case errors.Is(err, node.ErrUnknown):
		return &Error{Code: CodeUnknown, Detail: "The server could not learn whether the change was made; look at the cluster before you repeat it.", cause: err}
	case errors.Is(err, node.ErrUnavailable), errors.Is(err, node.ErrStopping):
		return backendError(ctx, err)
	}
	return &Error{Code: CodeRefused, Detail: sentence(err.Error()), cause: err}
}
