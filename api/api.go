// Package api holds the OpenAPI document that describes every route of the server. openapi.yaml is the source of truth;
// openapi.json is generated from it (go generate ./api) and a test keeps the two in step.
package api

import _ "embed" // for the document

//go:generate go test -run TestDocumentsAgree . -args -update

// YAML is openapi.yaml. It must not be changed by the caller.
//
//go:embed openapi.yaml
var YAML []byte

// JSON is the same document as JSON. It must not be changed by the caller.
//
//go:embed openapi.json
var JSON []byte
