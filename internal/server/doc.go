// Package server is the HTTP door of a lock server. It speaks three interfaces over one Backend:
//
//   - the seed interface (seed.go): plain text, GET only, what every existing client speaks;
//   - the classic interface (classic.go): query parameters and JSON;
//   - v1 (v1_*.go): JSON with problem documents, described by the OpenAPI document of package api;
//
// and beside them health, readiness, metrics and the document itself.
//
// What a caller may rely on:
//
//   - routes.go is the whole list of routes; a path that is not in it is never answered with anything but 404 or 405;
//   - names are taken from the path as it was sent: no cleaning, no folding of slashes, no redirects;
//   - a request is authenticated before its body is read;
//   - nothing is acquired for a request that is answered with 4xx;
//   - a grant whose answer cannot be written is given back;
//   - keys, session ids, API keys, paths, queries and bodies never reach a log or a metric.
package server
