package fencing

import (
	"bytes"
	"encoding/json"
	"net/url"
	"testing"

	authz "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
)

// Envoy itself cannot be had here. But its schema can: every member of the filters has to be one that Envoy knows, with a value
// that it takes. What it then asks is tested in internal/server.
func TestRecipeEnvoy(t *testing.T) {
	t.Parallel()
	var config struct {
		Filters []map[string]any `yaml:"http_filters"`
	}
	ok(t, strictly(recipe(t, "envoy"), &config))
	if len(config.Filters) != 2 {
		t.Fatalf("there are %d filters", len(config.Filters))
	}
	var filters []*manager.HttpFilter
	for _, f := range config.Filters {
		text, err := json.Marshal(f)
		ok(t, err)
		h := &manager.HttpFilter{}
		if err := protojson.Unmarshal(text, h); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		filters = append(filters, h)
	}
	a := &authz.ExtAuthz{}
	if err := filters[0].GetTypedConfig().UnmarshalTo(a); err != nil {
		t.Fatal(err)
	}
	ok(t, a.ValidateAll())
	h := a.GetHttpService()
	if h.GetPathPrefix() != "/v1/forward-auth" || a.GetFailureModeAllow() {
		t.Errorf("it asks at %q, and lets through what it cannot check: %v", h.GetPathPrefix(), a.GetFailureModeAllow())
	}
	if p := a.GetAllowedHeaders().GetPatterns(); len(p) != 1 || p[0].GetExact() != "lock-token" {
		t.Errorf("it passes on %v", p)
	}
	if n := h.GetAuthorizationRequest().GetHeadersToAdd(); len(n) != 1 || n[0].GetKey() != "lock-name" || n[0].GetValue() != "reports" {
		t.Errorf("it adds %v", n)
	}
}

// traefik is what the page uses of Traefik's dynamic configuration, by the names in its reference.
type traefik struct {
	HTTP struct {
		Middlewares map[string]struct {
			ForwardAuth struct {
				Address            string   `yaml:"address"`
				AuthRequestHeaders []string `yaml:"authRequestHeaders"`
			} `yaml:"forwardAuth"`
		} `yaml:"middlewares"`
		Routers map[string]struct {
			Rule, Service string
			Middlewares   []string
		} `yaml:"routers"`
		Services map[string]struct {
			LoadBalancer struct {
				Servers []struct{ URL string }
			} `yaml:"loadBalancer"`
		} `yaml:"services"`
	} `yaml:"http"`
}

func TestRecipeTraefik(t *testing.T) {
	t.Parallel()
	var config traefik
	ok(t, strictly(recipe(t, "traefik"), &config))
	for name, r := range config.HTTP.Routers {
		if _, there := config.HTTP.Services[r.Service]; !there || r.Rule == "" || len(r.Middlewares) != 1 {
			t.Errorf("the router %s is %+v", name, r)
			continue
		}
		ask, err := url.Parse(config.HTTP.Middlewares[r.Middlewares[0]].ForwardAuth.Address)
		if err != nil || ask.Path != "/v1/forward-auth" || ask.Query().Get("name") != "reports" {
			t.Errorf("it asks at %v, %v", ask, err)
		}
	}
	if len(config.HTTP.Routers) == 0 {
		t.Error("there is no router")
	}
}

// strictly reads YAML, all of whose members must be known.
func strictly(text string, into any) error {
	d := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	d.KnownFields(true)
	return d.Decode(into)
}
