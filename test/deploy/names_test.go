//go:build linux

package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// names stands for the cluster's name server. Where the test may make mount namespaces, the program resolves names itself,
// from a hosts file that the test can change while it runs; elsewhere they are put into its configuration as addresses.
type names struct {
	t    *testing.T
	real bool
	dir  string

	mu  sync.Mutex // guards ips
	ips map[string]string
}

func newNames(t *testing.T) *names {
	n := &names{t: t, dir: t.TempDir(), ips: map[string]string{}}
	n.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") // nobody is there
	n.write("hosts", "127.0.0.1 localhost\n")
	n.real = exec.Command(n.wrap()[0], append(n.wrap()[1:], "true")...).Run() == nil
	if !n.real {
		t.Log("no right to make mount namespaces: names are put in as addresses")
	}
	return n
}

// write keeps the file itself, which is mounted elsewhere.
func (n *names) write(file, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, file), []byte(text), 0o644); err != nil { //nolint:gosec // no secret
		n.t.Fatal(err)
	}
}

// wrap is a command that runs another one with these names.
func (n *names) wrap() []string {
	script := `mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"`
	return []string{"unshare", "--mount", "sh", "-c", script, n.dir}
}

// set gives a name an address, or takes it away if ip is empty.
func (n *names) set(name, ip string) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ips[name] = ip
	text := "127.0.0.1 localhost\n"
	for name, ip := range n.ips {
		if ip != "" {
			text += fmt.Sprintf("%s %s\n", ip, name)
		}
	}
	n.write("hosts", text)
}

// put replaces names by addresses where the program cannot resolve them.
func (n *names) put(text string) string {
	if n.real {
		return text
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, ip := range n.ips {
		text = strings.ReplaceAll(text, name+":", ip+":")
	}
	return text
}
