//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"testing"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// python returns an interpreter that has the module requests.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import requests").Run() == nil {
			return name
		}
	}
	t.Skip("SKIP: there is no python3 with the module requests")
	return ""
}

// runPython runs a script that ends with an error when something is not as it should be. It prints the keys that it got.
func runPython(t *testing.T, s *server, script string) {
	t.Helper()
	cmd := exec.Command(python(t), "-c", script)
	cmd.Env = append(os.Environ(), "SERVER="+s.base, "NAME="+canaryName, "API_KEY="+s.options.apiKey)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	keys := 0
	for i := 0; i+rig.KeyLength < len(out); i += rig.KeyLength + 1 { // one key a line
		evidence.secret(string(out[i : i+rig.KeyLength]))
		keys++
	}
	if keys == 0 {
		t.Fatalf("the script got no key: %q", out)
	}
}

const seedScript = `
import os, threading, time, requests
server, name = os.environ["SERVER"], os.environ["NAME"] + "Python"

key = requests.get(f"{server}/getLock/{name}").text
print(key)
assert len(key) == 32 and key.isalnum(), key
assert requests.get(f"{server}/getLock/{name}").text == "false"
assert requests.get(f"{server}/getLock/{name}/5").text == "false"

start = time.monotonic()
assert requests.get(f"{server}/getLock/{name}?timeout=0.3").text == "false"
assert time.monotonic() - start >= 0.3

assert requests.get(f"{server}/releaseLock/{name}/{'x' * 32}").text == "false"
assert requests.get(f"{server}/releaseLock/{name}/{key}").text == "released"
assert requests.get(f"{server}/releaseLock/{name}/{key}").text == "false"

start = time.monotonic()
first = requests.get(f"{server}/getLock/{name}/0.5").text
second = requests.get(f"{server}/getLock/{name}", params={"timeout": 20}).text
print(first)
print(second)
assert time.monotonic() - start >= 0.5
assert len(first) == 32 and len(second) == 32 and first != second, (first, second)

answers = []
waiting = threading.Thread(target=lambda: answers.append(requests.get(f"{server}/getLock/{name}/9?timeout=30").text))
waiting.start()
while requests.get(f"{server}/v1/locks/{name}").json()["queue_length"] == 0:
    time.sleep(0.01)
assert requests.get(f"{server}/releaseLock/{name}/{second}").text == "released"
waiting.join()
print(answers[0])
assert len(answers[0]) == 32, answers

for wrong in ["0", "-1", "inf", "abc", "1e3"]:
    r = requests.get(f"{server}/getLock/{name}Other/{wrong}")
    assert r.status_code == 400 and r.text.endswith("."), r.text
assert requests.head(f"{server}/getLock/{name}Other").status_code == 405
last = requests.get(f"{server}/getLock/{name}Other").text
print(last)
assert len(last) == 32, last
`

const classicScript = `
import os, requests
server, auth = os.environ["SERVER"], os.environ["API_KEY"]
name = os.environ["NAME"] + "Classic"

r = requests.get(f"{server}/getlock", params={"lockname": name, "timeout": 1, "lifetime": 60, "auth": auth})
got = r.json()
token = got["sessiontoken"]
print(token)
assert r.status_code == 200, r.text
assert list(got) == ["servername", "lockname", "sessiontoken", "lockacquired"], got
assert got["servername"].startswith("DoubleDutch/") and got["lockname"] == name and got["lockacquired"] is True, got
assert len(token) == 32 and token.isalnum()

r = requests.get(f"{server}/getlock", params={"lockname": name, "auth": auth})
assert r.status_code == 200 and r.json()["lockacquired"] is False and r.json()["sessiontoken"] == "", r.text

r = requests.get(f"{server}/status", params={"auth": auth})
status = r.json()
assert r.status_code == 200 and status["status"] == "ok", r.text
assert [l["lockname"] for l in status["locks"]] == [name], status
lock = status["locks"][0]
assert 50 < lock["remaining"] <= 60 and lock["sessiontoken"] and token not in r.text, r.text

for params, code in [({}, 400), ({"auth": "wrong"}, 401)]:
    r = requests.get(f"{server}/status", params=params)
    assert r.status_code == code and list(r.json()) == ["servername", "error"], (code, r.text)
for params, code in [({"auth": auth}, 400), ({"lockname": name}, 401), ({"lockname": name, "auth": "wrong"}, 401)]:
    r = requests.get(f"{server}/getlock", params=params)
    assert r.status_code == code and list(r.json()) == ["servername", "error"], (code, r.text)

r = requests.delete(f"{server}/releaselock", params={"lockname": name, "token": "x" * 32, "auth": auth})
assert r.status_code == 400 and r.json()["lockreleased"] is False, r.text
r = requests.delete(f"{server}/releaselock", params={"lockname": name, "auth": auth})
assert r.status_code == 400 and "error" in r.json(), r.text
r = requests.delete(f"{server}/releaselock", params={"lockname": name, "token": token})
assert r.status_code == 401, r.text
r = requests.delete(f"{server}/releaselock", params={"lockname": name, "token": token, "auth": auth})
assert r.status_code == 200 and r.json() == {"servername": got["servername"], "lockname": name, "lockreleased": True}, r.text
r = requests.delete(f"{server}/releaselock", params={"lockname": name, "token": token, "auth": auth})
assert r.status_code == 400 and r.json()["lockreleased"] is False, r.text
assert requests.get(f"{server}/status", params={"auth": auth}).json()["locks"] == []
assert requests.get(f"{server}/getLock/{name}").status_code == 401
r = requests.get(f"{server}/getLock/{name}", params={"auth": auth})
print(r.text)
assert r.status_code == 200 and len(r.text) == 32, r.text
`

func TestSeedConversationWithPython(t *testing.T) {
	t.Parallel()
	runPython(t, start(t, options{}), seedScript)
}

func TestClassicConversationWithPython(t *testing.T) {
	t.Parallel()
	runPython(t, start(t, options{apiKey: canaryAPIKey}), classicScript)
}
