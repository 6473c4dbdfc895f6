package deploy

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

// load reads a compose file as Docker Compose does: schema, interpolation, references between its parts.
func load(file string, env ...string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithName("doubledutch"), cli.WithEnv(env))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

func mustLoad(t *testing.T, file string, env ...string) *types.Project {
	t.Helper()
	p, err := load(filepath.Join(root, file), env...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeOfOne(t *testing.T) {
	p := mustLoad(t, "compose.single.yaml")
	if len(p.Services) != 1 {
		t.Fatalf("%d services", len(p.Services))
	}
	for _, s := range p.Services {
		checkServer(t, p, &s)
	}
}

func TestComposeOfThree(t *testing.T) {
	p := mustLoad(t, "compose.yaml", "DOUBLEDUTCH_API_KEY=a key")
	published := map[string]bool{}
	for _, name := range []string{"n1", "n2", "n3"} {
		s, ok := p.Services[name]
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		checkServer(t, p, &s)
		if key := s.Environment["DOUBLEDUTCH_API_KEY"]; key == nil || *key != "a key" {
			t.Errorf("%s does not get the API key", name)
		}
		if s.DependsOn["certs"].Condition != types.ServiceConditionCompletedSuccessfully {
			t.Errorf("%s does not wait for its certificate", name)
		}
		if s.HealthCheck == nil || s.HealthCheck.Disable || len(s.HealthCheck.Test) < 3 || s.HealthCheck.Test[2] != "ping" {
			t.Errorf("the health check of %s: %+v", name, s.HealthCheck)
		}
		if s.MemLimit == 0 {
			t.Errorf("%s may take all memory", name)
		}
		published[s.Ports[0].Published] = true
	}
	if len(published) != 3 || len(p.Services) != 4 || len(p.Volumes) != 4 {
		t.Errorf("%d ports, %d services, %d volumes", len(published), len(p.Services), len(p.Volumes))
	}
	if c := p.Services["certs"]; c.Restart != types.RestartPolicyNo || c.NetworkMode != "none" {
		t.Errorf("certs: restart %q, network %q", c.Restart, c.NetworkMode)
	}
}

// checkServer checks what every server in a container needs.
func checkServer(t *testing.T, p *types.Project, s *types.ServiceConfig) {
	t.Helper()
	if len(s.Ports) != 1 || s.Ports[0].HostIP != "127.0.0.1" || s.Ports[0].Target != 80 {
		t.Errorf("%s publishes %+v", s.Name, s.Ports)
	}
	if s.Restart != types.RestartPolicyUnlessStopped || !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" {
		t.Errorf("%s: restart %q, read-only %v, dropped %v", s.Name, s.Restart, s.ReadOnly, s.CapDrop)
	}
	if s.StopGracePeriod == nil || s.StopGracePeriod.String() != "15s" {
		t.Errorf("%s: stops within %v", s.Name, s.StopGracePeriod)
	}
	if u := s.Ulimits["nofile"]; u == nil || u.Single < 1<<15 {
		t.Errorf("%s: open files %+v", s.Name, u)
	}
	kept := ""
	for _, v := range s.Volumes {
		if v.Target == "/data" {
			kept = v.Source
		}
	}
	if _, ok := p.Volumes[kept]; !ok {
		t.Errorf("%s keeps its data in %q", s.Name, kept)
	}
}

// TestComposeMistakesAreFound shows that the checks above are strict.
func TestComposeMistakesAreFound(t *testing.T) {
	for name, text := range map[string]string{
		"unknown field":   "services: {a: {image: x, restrat: always}}",
		"wrong type":      "services: {a: {image: x, ports: 80}}",
		"no such volume":  "services: {a: {image: x, volumes: ['kept:/data']}}",
		"no such service": "services: {a: {image: x, depends_on: [b]}}",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "compose.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := load(file); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}
