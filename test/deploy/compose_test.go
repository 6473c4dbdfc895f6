//go:build linux

package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v4"
)

// composeFile is what of a compose file says how the program is run.
type composeFile struct {
	Services map[string]struct {
		Command     []string
		Environment map[string]string
		Healthcheck struct{ Test []string }
		Volumes     []string
	}
}

const theKey = "a-key-for-the-tests-of-compose.yaml"

func readCompose(t *testing.T, path string) *composeFile {
	t.Helper()
	var f composeFile
	if err := yaml.Unmarshal([]byte(mustRead(t, filepath.Join(root, path))), &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

// stage gives the services of a compose file volumes and addresses.
type stage struct {
	t     *testing.T
	file  *composeFile
	image map[string]string
	dir   string
	peers []string // old and new: where the nodes reach each other
}

func newStage(t *testing.T, file string) *stage {
	s := &stage{t: t, file: readCompose(t, file), image: imageEnvironment(t), dir: t.TempDir()}
	for name := range s.file.Services {
		s.peers = append(s.peers, "="+name+":7334", "="+ownAddress()+":7334")
	}
	return s
}

// container is the service of that name.
func (s *stage) container(name string) *container {
	s.t.Helper()
	service, ok := s.file.Services[name]
	if !ok {
		s.t.Fatalf("there is no service %s", name)
	}
	door := ownAddress() + ":7333"
	own := door // of a service that is no node
	if i := slices.Index(s.peers, "="+name+":7334"); i >= 0 {
		own = strings.TrimPrefix(s.peers[i+1], "=")
	}
	words := append(slices.Clone(s.peers),
		"0.0.0.0:80", door, "http://127.0.0.1:80", "http://"+door, "0.0.0.0:7334", own,
		"${DOUBLEDUTCH_API_KEY:-}", theKey)
	for _, v := range service.Volumes {
		parts := strings.Split(v, ":")
		volume := filepath.Join(s.dir, parts[0])
		if err := os.MkdirAll(volume, 0o700); err != nil {
			s.t.Fatal(err)
		}
		words = append(words, parts[1], volume)
	}
	put := strings.NewReplacer(words...)
	c := &container{env: map[string]string{}}
	for _, arg := range service.Command {
		c.args = append(c.args, put.Replace(arg))
	}
	for _, env := range []map[string]string{s.image, service.Environment} {
		for k, v := range env {
			c.env[k] = put.Replace(v)
		}
	}
	return c
}

// isHealthy runs the health check of the service.
func (s *stage) isHealthy(name string, c *container) bool {
	s.t.Helper()
	test := s.file.Services[name].Healthcheck.Test
	if len(test) == 0 { // the image's own
		test = []string{"CMD", "/bin/doubledutch", "ping", "--timeout=2s"}
		if !strings.Contains(mustRead(s.t, root+"/Dockerfile"), `CMD ["/bin/doubledutch", "ping", "--timeout=2s"]`) {
			s.t.Fatal("the image has another health check")
		}
	}
	if test[0] != "CMD" || test[1] != "/bin/doubledutch" {
		s.t.Fatalf("the health check of %s is %q", name, test)
	}
	_, code := c.exec(s.t, test[2:]...)
	return code == 0
}

func TestComposeOfOneServes(t *testing.T) {
	t.Parallel()
	s := newStage(t, "compose.single.yaml")
	c := s.container("doubledutch")
	c.args = []string{"serve"} // the image's command
	c.start(t)
	eventually(t, "the server is healthy", func() bool { return s.isHealthy("doubledutch", c) })
	if out, code := c.exec(t, "acquire", "db"); code != 0 {
		t.Errorf("acquire: %d %s", code, out)
	}
}

func TestComposeOfThreeServes(t *testing.T) {
	t.Parallel()
	s := newStage(t, "compose.yaml")
	certs := s.container("certs")
	for range 2 { // as at each `docker compose up`
		if out, code := certs.exec(t, certs.args...); code != 0 {
			t.Fatalf("certs: %d %s", code, out)
		}
	}
	names := []string{"n1", "n2", "n3"}
	nodes, running := map[string]*container{}, map[string]*process{}
	for _, name := range names {
		nodes[name] = s.container(name)
		running[name] = nodes[name].start(t)
	}
	healthy := func() {
		t.Helper()
		for _, name := range names {
			eventually(t, name+" is healthy", func() bool { return s.isHealthy(name, nodes[name]) })
		}
	}
	healthy()
	out, code := nodes["n1"].exec(t, "acquire", "db", "--ttl", "1h")
	if code != 0 {
		t.Fatalf("acquire: %d %s", code, out)
	}
	key := strings.Fields(out)[0]
	if out, code := nodes["n3"].exec(t, "acquire", "db"); code != 3 {
		t.Errorf("acquire through another node: %d %s", code, out)
	}
	if out, code := nodes["n2"].exec(t, "cluster", "status"); code != 0 || strings.Count(out, " ok ") != 3 {
		t.Errorf("cluster status: %d %s", code, out)
	}
	if code, _ := status(nodes["n1"].env["DOUBLEDUTCH_SERVER"] + "/v1/locks"); code != 401 {
		t.Errorf("without the API key: %d", code)
	}
	running["n2"].stop(syscall.SIGKILL)
	running["n2"] = nodes["n2"].start(t)
	healthy()
	if out, code := nodes["n2"].exec(t, "release", "db", key); code != 0 {
		t.Errorf("release: %d %s", code, out)
	}
	for _, name := range names {
		if code := running[name].stop(syscall.SIGTERM); code != 0 {
			t.Errorf("%s ended with %d", name, code)
		}
	}
}
