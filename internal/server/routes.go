package server

import "net/http"

// routeTable returns the whole interface. The tests walk it: every route has a rule, a place in the OpenAPI document and
// an answer to a request without a key.
func routeTable() []*route {
	return []*route{
		// The seed interface.
		{method: http.MethodGet, pattern: "/getLock/{name}", auth: authQuery, style: stylePlain, handle: (*Server).seedGet},
		{method: http.MethodGet, pattern: "/getLock/{name}/{lifetime}", auth: authQuery, style: stylePlain, handle: (*Server).seedGetLifetime},
		{method: http.MethodGet, pattern: "/releaseLock/{name}/{key}", auth: authQuery, style: stylePlain, handle: (*Server).seedRelease},

		// The classic interface.
		{method: http.MethodGet, pattern: "/getlock", auth: authQuery, style: styleClassic, handle: (*Server).classicGet},
		{method: http.MethodDelete, pattern: "/releaselock", auth: authQuery, style: styleClassic, handle: (*Server).classicRelease},
		{method: http.MethodGet, pattern: "/status", auth: authQuery, style: styleClassic, streams: true, handle: (*Server).classicStatus},

		// v1.
		{method: http.MethodGet, pattern: "/v1/locks", head: true, streams: true, handle: (*Server).listLocks},
		{method: http.MethodPost, pattern: "/v1/locks", handle: (*Server).acquireSet},
		{method: http.MethodPost, pattern: "/v1/locks/{name}", handle: (*Server).acquireLock},
		{method: http.MethodGet, pattern: "/v1/locks/{name}", head: true, handle: (*Server).showLock},
		{method: http.MethodDelete, pattern: "/v1/locks/{name}", handle: (*Server).releaseLock},
		{method: http.MethodPost, pattern: "/v1/locks/{name}/renew", handle: (*Server).renewLock},
		{method: http.MethodGet, pattern: "/v1/locks/{name}/history", head: true, handle: (*Server).lockHistory},
		{method: http.MethodPost, pattern: "/v1/locks/{name}/ask", handle: (*Server).askHolders},
		{method: http.MethodPost, pattern: "/v1/locks/{name}/handover", handle: (*Server).handOver},
		{method: http.MethodDelete, pattern: "/v1/locks/{name}/holders", handle: (*Server).breakHolds},
		{method: http.MethodGet, pattern: "/v1/holds", head: true, handle: (*Server).showHolds},
		{method: http.MethodDelete, pattern: "/v1/holds", handle: (*Server).releaseHolds},
		{method: http.MethodPost, pattern: "/v1/holds/renew", handle: (*Server).renewHolds},
		{method: http.MethodPost, pattern: "/v1/sessions", handle: (*Server).openSession},
		{method: http.MethodGet, pattern: "/v1/sessions/{id}", head: true, handle: (*Server).showSession},
		{method: http.MethodDelete, pattern: "/v1/sessions/{id}", handle: (*Server).endSession},
		{method: http.MethodPost, pattern: "/v1/sessions/{id}/renew", handle: (*Server).renewSession},
		{method: http.MethodGet, pattern: "/v1/cluster", head: true, handle: (*Server).showCluster},
		{method: http.MethodPost, pattern: "/v1/cluster/members", handle: (*Server).changeMember},
		{method: http.MethodDelete, pattern: "/v1/cluster/members/{name}", handle: (*Server).removeMember},
		{method: http.MethodPost, pattern: "/v1/cluster/transfer", handle: (*Server).transferLeadership},
		{method: http.MethodPost, pattern: "/v1/cluster/calendar", handle: (*Server).setCalendar},
		{method: http.MethodGet, pattern: "/v1/cluster/backup", streams: true, handle: (*Server).sendBackup},

		{method: http.MethodGet, pattern: "/v1/tasks", head: true, streams: true, handle: (*Server).listTasks},
		{method: http.MethodPost, pattern: "/v1/tasks/{name}", handle: (*Server).postTask},
		{method: http.MethodGet, pattern: "/v1/tasks/{name}", head: true, handle: (*Server).showTask},
		{method: http.MethodDelete, pattern: "/v1/tasks/{name}", handle: (*Server).forgetTask},
		{method: http.MethodPost, pattern: "/v1/tasks/{name}/complete", handle: (*Server).completeTask},
		{method: http.MethodPost, pattern: "/v1/tasks/{name}/fail", handle: (*Server).failTask},
		{method: http.MethodPost, pattern: "/v1/tasks/{name}/renew", handle: (*Server).renewTask},
		{method: http.MethodPost, pattern: "/v1/tasks/{name}/settle", handle: (*Server).settleTask},
		{method: http.MethodPost, pattern: "/v1/verify", handle: (*Server).verifyToken},
		{method: http.MethodGet, pattern: "/v1/forward-auth", any: true, auth: authProxy, linkable: true, handle: (*Server).forwardAuth},
		{method: http.MethodGet, pattern: "/v1/forward-auth/{path}", any: true, below: true, linkable: true, handle: (*Server).forwardAuthBelow},

		{method: http.MethodGet, pattern: "/v1/events", streams: true, handle: (*Server).allEvents},
		{method: http.MethodGet, pattern: "/v1/locks/{name}/events", streams: true, handle: (*Server).lockEvents},
		{method: http.MethodGet, pattern: "/v1/tasks/{name}/events", streams: true, handle: (*Server).taskEvents},

		// Around them.
		{method: http.MethodGet, pattern: "/healthz", auth: authNone, style: stylePlain, head: true, handle: (*Server).healthz},
		{method: http.MethodGet, pattern: "/readyz", auth: authNone, style: stylePlain, head: true, handle: (*Server).readyz},
		{method: http.MethodGet, pattern: "/metrics", head: true, streams: true, handle: (*Server).metrics},
		{method: http.MethodGet, pattern: "/openapi.json", head: true, streams: true, handle: (*Server).openapiJSON},
		{method: http.MethodGet, pattern: "/openapi.yaml", head: true, streams: true, handle: (*Server).openapiYAML},
		{method: http.MethodGet, pattern: "/", head: true, linkable: true, handle: (*Server).frontPage},
	}
}
