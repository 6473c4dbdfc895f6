//go:build linux

package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// unit is what a unit and its drop-ins say how the program is run.
type unit struct {
	args        []string
	env         map[string]string
	credentials map[string]string // paths by name
}

func readUnit(t *testing.T, files ...string) *unit {
	t.Helper()
	u := &unit{env: map[string]string{}, credentials: map[string]string{}}
	for _, file := range files {
		for line := range strings.Lines(mustRead(t, root+"/deploy/"+file)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch key {
			case "ExecStart":
				u.args = strings.Fields(value)[1:]
			case "Environment":
				k, v, _ := strings.Cut(value, "=")
				u.env[k] = v
			case "LoadCredential":
				name, path, _ := strings.Cut(value, ":")
				u.credentials[name] = path
			}
		}
	}
	return u
}

// TestUnitWithDropInServes runs three machines' unit, each with its own name and address in the drop-in.
func TestUnitWithDropInServes(t *testing.T) {
	t.Parallel()
	u := readUnit(t, "doubledutch.service", "doubledutch-cluster.conf")
	dir := t.TempDir()
	certs := filepath.Join(dir, "certs")
	admin := &container{env: map[string]string{}}
	if out, code := admin.exec(t, "cluster", "certs", certs, "n1", "n2", "n3"); code != 0 {
		t.Fatalf("certs: %d %s", code, out)
	}
	var peers []string
	for _, host := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		peers = append(peers, host+":7334", ownAddress()+":7334")
	}
	var nodes []*process
	for i, name := range []string{"n1", "n2", "n3"} {
		// What systemd does: files in a directory of the service, named as LoadCredential says.
		creds := filepath.Join(dir, "credentials", name)
		if err := os.MkdirAll(creds, 0o700); err != nil {
			t.Fatal(err)
		}
		for credential, from := range u.credentials {
			text := mustRead(t, filepath.Join(certs, strings.Replace(filepath.Base(from), "node", name, 1)))
			if err := os.WriteFile(filepath.Join(creds, credential), []byte(text), 0o400); err != nil {
				t.Fatal(err)
			}
		}
		put := strings.NewReplacer(append([]string{"%d", creds, "/var/lib/doubledutch", filepath.Join(dir, name)}, peers...)...)
		listen := ownAddress() + ":7333"
		c := &container{args: u.args, env: map[string]string{"DOUBLEDUTCH_LISTEN": listen, "DOUBLEDUTCH_SERVER": "http://" + listen}}
		for k, v := range u.env {
			c.env[k] = put.Replace(v)
		}
		c.env["DOUBLEDUTCH_NAME"] = name
		c.env["DOUBLEDUTCH_CLUSTER_LISTEN"] = peers[2*i+1]
		nodes = append(nodes, c.start(t))
	}
	for _, n := range nodes {
		eventually(t, "a node is ready", func() bool { _, code := n.exec(t, "ping"); return code == 0 })
	}
	if out, code := nodes[1].exec(t, "cluster", "status"); code != 0 || strings.Count(out, " ok ") != 3 {
		t.Errorf("cluster status: %d %s", code, out)
	}
	for _, n := range nodes {
		if code := n.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("ended with %d", code)
		}
	}
}
