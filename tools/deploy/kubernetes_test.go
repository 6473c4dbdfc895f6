package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const manifests = root + "/deploy/kubernetes"

// objects are the documents of the manifests, by "Kind/name".
type objects map[string]any

// decode reads one document strictly: a field that the API does not know, or that stands in the wrong place, is an error.
func decode(text []byte) (string, any, error) {
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil {
		return "", nil, err
	}
	kinds := map[string]any{
		"v1 ConfigMap":                       &corev1.ConfigMap{},
		"v1 Service":                         &corev1.Service{},
		"apps/v1 StatefulSet":                &appsv1.StatefulSet{},
		"policy/v1 PodDisruptionBudget":      &policyv1.PodDisruptionBudget{},
		"networking.k8s.io/v1 NetworkPolicy": &networkingv1.NetworkPolicy{},
	}
	object, ok := kinds[head.APIVersion+" "+head.Kind]
	if !ok {
		return "", nil, fmt.Errorf("unexpected %s %s", head.APIVersion, head.Kind)
	}
	return head.Kind + "/" + head.Name, object, yaml.UnmarshalStrict(text, object)
}

func read(t *testing.T) objects {
	t.Helper()
	var k struct{ Resources []string }
	text, err := os.ReadFile(filepath.Join(manifests, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(manifests)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(k.Resources)+1 {
		t.Errorf("kustomization.yaml lists %v, of %d other files", k.Resources, len(files)-1)
	}
	all := objects{}
	for _, file := range k.Resources {
		text, err := os.ReadFile(filepath.Join(manifests, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(text), "\n---\n") {
			name, object, err := decode([]byte(doc))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all[name] = object
		}
	}
	return all
}

func get[T any](t *testing.T, all objects, name string) *T {
	t.Helper()
	object, ok := all[name].(*T)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return object
}

func TestStatefulSet(t *testing.T) {
	all := read(t)
	set := get[appsv1.StatefulSet](t, all, "StatefulSet/doubledutch")
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	want := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s is not so", what)
		}
	}
	want("three replicas", *set.Spec.Replicas == 3)
	want("all pods start at once", set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement)
	want("the peers' service is the set's", set.Spec.ServiceName == get[corev1.Service](t, all, "Service/doubledutch-peers").Name)
	want("the selector fits the pods", reflect.DeepEqual(set.Spec.Selector.MatchLabels, set.Spec.Template.Labels))
	want("more grace than --shutdown-timeout", *pod.TerminationGracePeriodSeconds > 10)
	want("no token of the API server", !*pod.AutomountServiceAccountToken)
	want("not root", *pod.SecurityContext.RunAsNonRoot && *pod.SecurityContext.RunAsUser == 65532 && *pod.SecurityContext.FSGroup == 65532)
	want("seccomp", pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault)
	want("read-only root", *c.SecurityContext.ReadOnlyRootFilesystem && !*c.SecurityContext.AllowPrivilegeEscalation)
	want("no capabilities", slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}) && c.SecurityContext.Capabilities.Add == nil)
	want("alive is /healthz", c.LivenessProbe.HTTPGet.Path == "/healthz" && c.StartupProbe.HTTPGet.Path == "/healthz")
	want("ready is /readyz", c.ReadinessProbe.HTTPGet.Path == "/readyz")
	want("spread over machines", pod.TopologySpreadConstraints[0].TopologyKey == corev1.LabelHostname &&
		pod.TopologySpreadConstraints[0].WhenUnsatisfiable == corev1.DoNotSchedule &&
		reflect.DeepEqual(pod.TopologySpreadConstraints[0].LabelSelector, set.Spec.Selector))
	want("a memory limit", !c.Resources.Limits.Memory().IsZero())
	checkMounts(t, set, all)
	checkPorts(t, &c, all)
}

// checkMounts checks that every path among the flags is on a volume that is there.
func checkMounts(t *testing.T, set *appsv1.StatefulSet, all objects) {
	t.Helper()
	volumes := map[string]bool{}
	for _, v := range set.Spec.Template.Spec.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil {
			get[corev1.ConfigMap](t, all, "ConfigMap/"+v.ConfigMap.Name)
		}
	}
	for _, v := range set.Spec.VolumeClaimTemplates {
		volumes[v.Name] = true
	}
	c := set.Spec.Template.Spec.Containers[0]
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("no volume %s", m.Name)
		}
	}
	for _, arg := range c.Args {
		_, path, found := strings.Cut(arg, "=/")
		inside := func(m corev1.VolumeMount) bool { return strings.HasPrefix("/"+path, m.MountPath+"/") }
		if found && !slices.ContainsFunc(c.VolumeMounts, inside) {
			t.Errorf("%s is on no volume", arg)
		}
	}
}

// checkPorts checks that whoever names a port means one of the container's.
func checkPorts(t *testing.T, c *corev1.Container, all objects) {
	t.Helper()
	known := map[string]int32{}
	for _, p := range c.Ports {
		known[p.Name] = p.ContainerPort
		listens := regexp.MustCompile(fmt.Sprintf(`listen=0\.0\.0\.0:%d$`, p.ContainerPort))
		if !slices.ContainsFunc(c.Args, listens.MatchString) {
			t.Errorf("nobody listens on port %d", p.ContainerPort)
		}
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if known[probe.HTTPGet.Port.StrVal] == 0 {
			t.Errorf("a probe asks port %v", probe.HTTPGet.Port)
		}
	}
	for _, name := range []string{"Service/doubledutch", "Service/doubledutch-peers"} {
		for _, p := range get[corev1.Service](t, all, name).Spec.Ports {
			if known[p.TargetPort.StrVal] != p.Port {
				t.Errorf("%s leads from %d to %v", name, p.Port, p.TargetPort)
			}
		}
	}
	for _, rule := range get[networkingv1.NetworkPolicy](t, all, "NetworkPolicy/doubledutch").Spec.Ingress {
		if known[rule.Ports[0].Port.StrVal] == 0 {
			t.Errorf("the policy names port %v", rule.Ports[0].Port)
		}
	}
}

func TestServicesAndPolicies(t *testing.T) {
	all := read(t)
	peers := get[corev1.Service](t, all, "Service/doubledutch-peers").Spec
	if peers.ClusterIP != corev1.ClusterIPNone || !peers.PublishNotReadyAddresses {
		t.Error("the nodes have no names before they are ready")
	}
	if s := get[corev1.Service](t, all, "Service/doubledutch").Spec; s.PublishNotReadyAddresses || s.ClusterIP != "" {
		t.Error("clients are sent to nodes that are not ready")
	}
	labels := get[appsv1.StatefulSet](t, all, "StatefulSet/doubledutch").Spec.Template.Labels
	budget := get[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget/doubledutch").Spec
	if budget.MaxUnavailable.IntValue() != 1 || !reflect.DeepEqual(budget.Selector.MatchLabels, labels) {
		t.Errorf("the budget: %v of %v", budget.MaxUnavailable, budget.Selector)
	}
	policy := get[networkingv1.NetworkPolicy](t, all, "NetworkPolicy/doubledutch").Spec
	if !reflect.DeepEqual(policy.PodSelector.MatchLabels, labels) {
		t.Errorf("the policy is for %v", policy.PodSelector)
	}
	for _, rule := range policy.Ingress {
		if rule.Ports[0].Port.StrVal == "peers" &&
			(len(rule.From) != 1 || !reflect.DeepEqual(rule.From[0].PodSelector.MatchLabels, labels)) {
			t.Errorf("the peer port is open to %v", rule.From)
		}
	}
}

// TestConfigOfEachPod checks that every pod has a file that begins the same cluster.
func TestConfigOfEachPod(t *testing.T) {
	all := read(t)
	data := get[corev1.ConfigMap](t, all, "ConfigMap/doubledutch").Data
	replicas := int(*get[appsv1.StatefulSet](t, all, "StatefulSet/doubledutch").Spec.Replicas)
	if len(data) != replicas {
		t.Errorf("%d files for %d pods", len(data), replicas)
	}
	for i := range replicas {
		pod := fmt.Sprintf("doubledutch-%d", i)
		if data[pod+".json"] == "" || data[pod+".json"] != data["doubledutch-0.json"] {
			t.Errorf("%s: %q", pod, data[pod+".json"])
		}
		if !strings.Contains(data[pod+".json"], fmt.Sprintf("%s=%s.doubledutch-peers:7334", pod, pod)) {
			t.Errorf("%s is not in its cluster", pod)
		}
	}
}

func TestKubernetesMistakesAreFound(t *testing.T) {
	const head = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"
	for name, text := range map[string]string{
		"unknown field":  head + "spec: {clusterIPP: None}",
		"misplaced":      head + "ports: []",
		"twice":          head + "spec: {clusterIP: None}\nspec: {}",
		"wrong type":     head + "spec: {ports: 80}",
		"unknown object": "apiVersion: v2\nkind: Service",
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := decode([]byte(text)); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}
