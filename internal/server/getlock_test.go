package server

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// The tests of docs/get-lock.md, one for each row of its tables. connection speaks to the server as the page says that a
// program does that knew GET_LOCK.

// connection is what a connection to MySQL was: a session with the keys of its locks.
type connection struct {
	d       *door
	session string
	keys    map[string][]string // of each lock, oldest first
	n       int
}

func (d *door) connect(n int) *connection {
	d.t.Helper()
	c := &connection{d: d, session: key(1000 * n), keys: map[string][]string{}, n: 1000 * n}
	d.ok("POST", "/v1/sessions", fmt.Sprintf(`{"id":"%s","owner":"connection %d"}`, c.session, n))
	return c
}

const null = "NULL"

// getLock is GET_LOCK(name, timeout): 1, 0, NULL, or the number of MySQL's error.
func (c *connection) getLock(name, timeout string) string {
	c.n++
	k := key(c.n)
	a, err := c.d.request(c.d.t.Context(), "POST", "/v1/locks/"+url.PathEscape(name), `{"session":"`+c.session+`","key":"`+k+`","wait":`+timeout+`}`)
	if err != nil {
		return err.Error()
	}
	switch code := codeOf(a); {
	case a.status == http.StatusOK:
		c.keys[name] = append(c.keys[name], k)
		return "1"
	case code == CodeHeld:
		return "0"
	case code == CodeInvalidName:
		return "3057"
	case code == "deadlock":
		return "3058"
	}
	return null
}

// releaseLock is RELEASE_LOCK(name): 1, 0 (another's) or NULL (nobody's).
func (c *connection) releaseLock(name string) string {
	k := key(999_999) // of nothing
	if mine := c.keys[name]; len(mine) > 0 {
		k, c.keys[name] = mine[len(mine)-1], mine[:len(mine)-1]
	}
	a := c.d.do("DELETE", "/v1/locks/"+url.PathEscape(name), "", "Lock-Key", k)
	switch {
	case a.status == http.StatusOK:
		return "1"
	case codeOf(a) != CodeNotHeld:
		return null
	case c.isFreeLock(name) == "1":
		return null
	}
	return "0"
}

// isFreeLock is IS_FREE_LOCK(name).
func (c *connection) isFreeLock(name string) string {
	a := c.d.get("/v1/locks/" + url.PathEscape(name))
	if a.status != http.StatusOK {
		return null
	}
	if a.json(c.d.t)["held"] == true {
		return "0"
	}
	return "1"
}

// isUsedLock is IS_USED_LOCK(name), with the owner in the place of the connection's number.
func (c *connection) isUsedLock(name string) string {
	holders := parts(c.d.t, c.d.ok("GET", "/v1/locks/"+url.PathEscape(name), ""), "holders")
	if len(holders) == 0 {
		return null
	}
	owner, _ := holders[0]["owner"].(string)
	return owner
}

// releaseAllLocks is RELEASE_ALL_LOCKS(): how many locks were released.
func (c *connection) releaseAllLocks() string {
	n, _ := c.d.ok("DELETE", "/v1/sessions/"+c.session, "")["released"].(float64)
	return strconv.Itoa(int(n))
}

// later is getLock of a waiting connection, which is in the queue when later returns.
func (c *connection) later(name, timeout string, waiters int) <-chan string {
	got := make(chan string, 1)
	go func() { got <- c.getLock(name, timeout) }()
	c.d.waiting(name, waiters)
	return got
}

func codeOf(a *answer) Code {
	var p struct{ Code Code }
	_ = json.Unmarshal([]byte(a.body), &p)
	return p.Code
}

// says compares an answer with what MySQL gives.
func says(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %s, want %s", what, got, want)
	}
}

func TestGetLockSucceeds(t *testing.T) {
	d := openDoor(t)
	says(t, "GET_LOCK of a free lock", d.connect(1).getLock("n", "10"), "1")
}

func TestGetLockTimesOut(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	says(t, "GET_LOCK", a.getLock("n", "0"), "1")
	says(t, "GET_LOCK without a wait", b.getLock("n", "0"), "0")
	says(t, "GET_LOCK with a wait", b.getLock("n", "0.05"), "0")
}

func TestGetLockWaits(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	a.getLock("n", "0")
	got := b.later("n", "60", 1)
	says(t, "RELEASE_LOCK", a.releaseLock("n"), "1")
	says(t, "GET_LOCK after a wait", <-got, "1")
}

func TestGetLockWithNegativeTimeoutWaitsForever(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	a.getLock("n", "0")
	got := b.later("n", "-1", 1)
	if q := parts(t, d.ok("GET", "/v1/locks/n", ""), "queue"); len(q) != 1 || q[0]["gives_up_in"] != nil {
		t.Errorf("the wait ends: %v", q)
	}
	a.releaseLock("n")
	says(t, "GET_LOCK with a negative timeout", <-got, "1")
}

func TestGetLockInterruptedIsNull(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	a.getLock("n", "0")
	got := b.later("n", "60", 1)
	d.ok("DELETE", "/v1/sessions/"+b.session, "") // KILL
	says(t, "GET_LOCK of a killed connection", <-got, null)
}

func TestGetLockOfSeveralNames(t *testing.T) {
	d := openDoor(t)
	a := d.connect(1)
	says(t, "the first GET_LOCK", a.getLock("n", "0"), "1")
	says(t, "the second GET_LOCK", a.getLock("m", "0"), "1")
	says(t, "IS_FREE_LOCK of the first", a.isFreeLock("n"), "0")
}

func TestGetLockIsReentrant(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	for range 2 {
		says(t, "GET_LOCK", a.getLock("n", "0"), "1")
	}
	says(t, "the first RELEASE_LOCK", a.releaseLock("n"), "1")
	says(t, "GET_LOCK of another, after one of two", b.getLock("n", "0"), "0")
	says(t, "the second RELEASE_LOCK", a.releaseLock("n"), "1")
	says(t, "the third RELEASE_LOCK", a.releaseLock("n"), null)
	says(t, "GET_LOCK of another, after both", b.getLock("n", "0"), "1")
}

func TestGetLockNames(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	says(t, "GET_LOCK of an empty name", a.getLock("", "0"), "3057")
	says(t, "GET_LOCK of 64 characters", a.getLock(strings.Repeat("ü", 64), "0"), "1")
	says(t, "GET_LOCK of 512 bytes", a.getLock(strings.Repeat("n", 512), "0"), "1")
	says(t, "GET_LOCK of 513 bytes", a.getLock(strings.Repeat("n", 513), "0"), "3057")
	says(t, "GET_LOCK", a.getLock("Name", "0"), "1")
	says(t, "GET_LOCK in another case, which MySQL takes for the same", b.getLock("name", "0"), "1")
}

func TestGetLockErrorIsNull(t *testing.T) {
	d := openDoor(t)
	a := d.connect(1)
	d.backend.answerWith(locktable.TooManyLocks)
	says(t, "GET_LOCK of a full server", a.getLock("n", "0"), null)
}

func TestReleaseLockOfMine(t *testing.T) {
	d := openDoor(t)
	a := d.connect(1)
	a.getLock("n", "0")
	says(t, "RELEASE_LOCK", a.releaseLock("n"), "1")
	says(t, "IS_FREE_LOCK", a.isFreeLock("n"), "1")
}

func TestReleaseLockOfAnotherIsZero(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	a.getLock("n", "0")
	says(t, "RELEASE_LOCK", b.releaseLock("n"), "0")
	says(t, "IS_FREE_LOCK", b.isFreeLock("n"), "0")
}

func TestReleaseLockOfNobodyIsNull(t *testing.T) {
	d := openDoor(t)
	says(t, "RELEASE_LOCK", d.connect(1).releaseLock("n"), null)
}

func TestIsFreeLock(t *testing.T) {
	d := openDoor(t)
	a := d.connect(1)
	says(t, "IS_FREE_LOCK", a.isFreeLock("n"), "1")
	a.getLock("n", "0")
	says(t, "IS_FREE_LOCK", a.isFreeLock("n"), "0")
	says(t, "IS_FREE_LOCK of an empty name", a.isFreeLock(""), null)
}

func TestIsUsedLock(t *testing.T) {
	d := openDoor(t)
	a := d.connect(1)
	says(t, "IS_USED_LOCK", a.isUsedLock("n"), null)
	d.ok("POST", "/v1/locks/n", `{"owner":"connection 7"}`)
	says(t, "IS_USED_LOCK", a.isUsedLock("n"), "connection 7")
}

func TestReleaseAllLocks(t *testing.T) {
	d := openDoor(t)
	a := d.connect(1)
	for _, name := range []string{"n", "m", "m"} {
		a.getLock(name, "0")
	}
	says(t, "RELEASE_ALL_LOCKS", a.releaseAllLocks(), "3")
	says(t, "IS_FREE_LOCK", a.isFreeLock("m"), "1")
	says(t, "RELEASE_ALL_LOCKS of nothing", d.connect(2).releaseAllLocks(), "0")
}

func TestSessionEndReleasesItsLocks(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	a.getLock("n", "0")
	got := b.later("n", "60", 1)
	// A connection that has gone does not renew; here the shorter lifetime stands for the passing of the time.
	d.ok("POST", "/v1/sessions/"+a.session+"/renew", `{"ttl":0.001}`)
	says(t, "GET_LOCK after the end of the holder's session", <-got, "1")
}

func TestGetLockOutlivesTransactions(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	a.getLock("n", "0")
	d.ok("POST", "/v1/sessions/"+a.session+"/renew", "") // whatever the client does in between
	d.ok("POST", "/v1/locks/m", "")
	says(t, "GET_LOCK of another", b.getLock("n", "0"), "0")
}

// TestGetLockPageNamesItsTests holds the page against the tests of this file and the one about deadlocks.
func TestGetLockPageNamesItsTests(t *testing.T) {
	page, err := os.ReadFile("../../docs/get-lock.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, row := range strings.Split(string(page), "\n") {
		names := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(row, -1)
		isRow := strings.HasPrefix(row, "| ") && !strings.HasPrefix(row, "| MySQL")
		if isRow && len(names) == 0 {
			t.Errorf("a row names no test: %s", row)
		}
		for _, n := range names {
			named = append(named, n[1])
		}
	}
	var have []string
	for _, file := range []string{"getlock_test.go", "getlock_deadlock_test.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != t.Name() {
				have = append(have, fn.Name.Name)
			}
		}
	}
	for _, n := range named {
		if !slices.Contains(have, n) {
			t.Errorf("the page names %s, which is not there", n)
		}
	}
	for _, n := range have {
		if !slices.Contains(named, n) {
			t.Errorf("the page does not name %s", n)
		}
	}
	if len(have) < 15 {
		t.Errorf("only %d tests were found", len(have))
	}
}
