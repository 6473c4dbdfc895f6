//go:build linux

package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v4"
)

// manifest is what of the manifests says how the program is run.
type manifest struct {
	Data map[string]string // of the ConfigMap
	Spec struct {
		Template struct {
			Spec struct{ Containers []podContainer }
		}
	}
}

type podContainer struct {
	Args []string
	Env  []struct {
		Name, Value string
		ValueFrom   struct {
			FieldRef     struct{ FieldPath string } `yaml:"fieldRef"`
			SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	StartupProbe   probe `yaml:"startupProbe"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

func readManifest(t *testing.T, file string) *manifest {
	t.Helper()
	var m manifest
	if err := yaml.Unmarshal([]byte(mustRead(t, filepath.Join(root, "deploy/kubernetes", file))), &m); err != nil {
		t.Fatal(err)
	}
	return &m
}

// kubelet runs the pods of the StatefulSet.
type kubelet struct {
	t      *testing.T
	names  *names
	pod    podContainer
	image  map[string]string
	config map[string]string // by file
	dir    string
	net    string // the first three parts of all addresses
}

func newKubelet(t *testing.T) *kubelet {
	pid := os.Getpid()
	return &kubelet{
		t: t, names: newNames(t), image: imageEnvironment(t), dir: t.TempDir(),
		pod:    readManifest(t, "statefulset.yaml").Spec.Template.Spec.Containers[0],
		config: readManifest(t, "config.yaml").Data,
		net:    fmt.Sprintf("127.%d.%d", 1+pid%200, pid/200%250),
	}
}

func podName(i int) string { return fmt.Sprintf("doubledutch-%d", i) }

// address gives a pod the address with that last part.
func (k *kubelet) address(pod string, last int) string {
	ip := fmt.Sprintf("%s.%d", k.net, last)
	k.names.set(pod+".doubledutch-peers", ip)
	return ip
}

// makeCerts does what docs/cluster.md says.
func (k *kubelet) makeCerts(pods ...string) {
	k.t.Helper()
	c := &container{env: map[string]string{}}
	if out, code := c.exec(k.t, append([]string{"cluster", "certs", filepath.Join(k.dir, "certs")}, pods...)...); code != 0 {
		k.t.Fatalf("certs: %d %s", code, out)
	}
}

func (k *kubelet) data(pod string) string { return filepath.Join(k.dir, "data", pod) }

// container is the pod at that address. Its data are kept by its name.
func (k *kubelet) container(pod, ip string) *container {
	k.t.Helper()
	if err := os.MkdirAll(k.data(pod), 0o700); err != nil {
		k.t.Fatal(err)
	}
	config := filepath.Join(k.dir, "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		k.t.Fatal(err)
	}
	for file, text := range k.config {
		if err := os.WriteFile(filepath.Join(config, file), []byte(k.names.put(text)), 0o600); err != nil {
			k.t.Fatal(err)
		}
	}
	words := []string{
		"$(POD_NAME)", pod, "0.0.0.0", ip, "127.0.0.1:7333", ip + ":7333",
		"/data/", k.data(pod) + "/", "/certs/", filepath.Join(k.dir, "certs") + "/", "/config/", config + "/",
	}
	put := func(text string) string { return k.names.put(strings.NewReplacer(words...).Replace(text)) }
	c := &container{env: map[string]string{}}
	if k.names.real {
		c.wrap = k.names.wrap()
	}
	for _, arg := range k.pod.Args {
		c.args = append(c.args, put(arg))
	}
	for name, v := range k.image {
		c.env[name] = put(v)
	}
	for _, e := range k.pod.Env {
		switch {
		case e.ValueFrom.FieldRef.FieldPath == "metadata.name":
			c.env[e.Name] = pod
		case e.ValueFrom.SecretKeyRef.Name != "":
			c.env[e.Name] = "the-secret-" + e.ValueFrom.SecretKeyRef.Key
		default:
			c.env[e.Name] = put(e.Value)
		}
	}
	return c
}

// isUp asks a probe.
func (k *kubelet) isUp(p probe, ip string) bool {
	code, _ := status("http://" + ip + ":7333" + p.HTTPGet.Path)
	return code == 200
}

func (k *kubelet) awaitReady(ips ...string) {
	k.t.Helper()
	for _, ip := range ips {
		eventually(k.t, ip+" is ready", func() bool { return k.isUp(k.pod.ReadinessProbe, ip) })
	}
}

func TestStatefulSetServes(t *testing.T) {
	t.Parallel()
	k := newKubelet(t)
	k.makeCerts(podName(0), podName(1), podName(2))
	ips := []string{k.address(podName(0), 10), k.address(podName(1), 11), k.net + ".12"}
	if !k.names.real { // their configuration has to know all addresses
		k.address(podName(2), 12)
	}
	pods := []*container{k.container(podName(0), ips[0]), k.container(podName(1), ips[1]), nil}
	running := []*process{pods[0].start(t), pods[1].start(t), nil}

	// Two of three pods: the name of the third does not resolve yet. They live, and are not ready.
	for i, ip := range ips[:2] {
		eventually(t, podName(i)+" is alive", func() bool { return k.isUp(k.pod.StartupProbe, ip) && k.isUp(k.pod.LivenessProbe, ip) })
		if k.isUp(k.pod.ReadinessProbe, ip) {
			t.Errorf("%s is ready alone", podName(i))
		}
	}
	k.address(podName(2), 12)
	pods[2] = k.container(podName(2), ips[2])
	running[2] = pods[2].start(t)
	k.awaitReady(ips...)
	for i, p := range running {
		if p != nil && !p.runs() {
			t.Fatalf("%s has ended", podName(i))
		}
	}
	out, code := pods[0].exec(t, "acquire", "db", "--ttl", "1h")
	if code != 0 {
		t.Fatalf("acquire: %d %s", code, out)
	}
	held := func(c *container) {
		t.Helper()
		if out, code := c.exec(t, "acquire", "db"); code != 3 {
			t.Errorf("acquire: %d %s", code, out)
		}
	}
	held(pods[2])
	t.Run("a pod moves", func(t *testing.T) { k.move(t, running, ips, held) })
	t.Run("a disk is lost", func(t *testing.T) { k.replace(t, running, ips, held) })
	t.Run("a fourth pod", func(t *testing.T) { k.grow(t, running, held) })
}

// move starts a pod with its disk and name at another address, as happens when its machine is drained.
func (k *kubelet) move(t *testing.T, running []*process, ips []string, held func(*container)) {
	if !k.names.real {
		t.Skip("SKIP: no right to make mount namespaces")
	}
	for i := range running { // one of them leads
		running[i].stop(syscall.SIGKILL)
		ips[i] = k.address(podName(i), 20+i)
		c := k.container(podName(i), ips[i])
		running[i] = c.start(k.t)
		k.awaitReady(ips[i])
		held(c)
		eventually(t, "the others reach it", func() bool {
			out, code := running[(i+1)%3].exec(t, "cluster", "status")
			return code == 0 && strings.Count(out, " ok ") == 3
		})
	}
}

// replace does what docs/cluster.md says about a pod whose disk was lost.
func (k *kubelet) replace(t *testing.T, running []*process, ips []string, held func(*container)) {
	pod := podName(2)
	running[2].stop(syscall.SIGKILL)
	if err := os.RemoveAll(k.data(pod)); err != nil {
		t.Fatal(err)
	}
	p := k.container(pod, ips[2]).start(k.t)
	if code := p.exit(); code != 1 || !strings.Contains(p.log.String(), "remove it from the cluster and start it with --join") {
		t.Errorf("with an empty disk it ended with %d:\n%s", code, p.log)
	}
	if out, code := running[0].exec(t, "cluster", "remove", pod); code != 0 {
		t.Fatalf("remove: %d %s", code, out)
	}
	k.config[pod+".json"] = joinConfig(t)
	if err := os.RemoveAll(k.data(pod)); err != nil {
		t.Fatal(err)
	}
	c := k.container(pod, ips[2])
	running[2] = c.start(k.t)
	k.awaitReady(ips[2])
	held(c)
	// The same file does no harm later.
	running[2].stop(syscall.SIGTERM)
	running[2] = c.start(k.t)
	k.awaitReady(ips[2])
}

// joinConfig is the file for a pod that joins, as the comment in config.yaml shows it.
func joinConfig(t *testing.T) string {
	t.Helper()
	text := mustRead(t, root+"/deploy/kubernetes/config.yaml")
	_, after, found := strings.Cut(text, "#   {")
	line, _, _ := strings.Cut(after, "\n")
	if !found || !strings.Contains(line, `"join"`) {
		t.Fatal("config.yaml does not show how to join")
	}
	return "{" + line
}

func (k *kubelet) grow(t *testing.T, running []*process, held func(*container)) {
	pod := podName(3)
	k.makeCerts(pod)
	k.config[pod+".json"] = joinConfig(t)
	ip := k.address(pod, 13)
	c := k.container(pod, ip)
	c.start(k.t)
	k.awaitReady(ip)
	held(c)
	eventually(t, "four vote", func() bool {
		out, _ := running[0].exec(t, "cluster", "status", "--json")
		return strings.Count(out, `"voter": true`) == 4
	})
}
