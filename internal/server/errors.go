package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// Code names what went wrong. Its spelling is part of the interface and never changes its meaning.
type Code string

// The codes. The OpenAPI document describes each; codeTable says which status goes with it.
const (
	CodeInvalidRequest   Code = "invalid_request"
	CodeInvalidName      Code = "invalid_name"
	CodeInvalidBody      Code = "invalid_body"
	CodeInvalidField     Code = "invalid_field"
	CodeUnauthorized     Code = "unauthorized"
	CodeTokenMissing     Code = "token_missing"
	CodeCrossSite        Code = "cross_site"
	CodeStaleToken       Code = "stale_token"
	CodeNotFound         Code = "not_found"
	CodeNotHeld          Code = "not_held"
	CodeNoSession        Code = "no_session"
	CodeMethodNotAllowed Code = "method_not_allowed"
	CodeBodyTimeout      Code = "body_timeout"
	CodeHeld             Code = "held"
	CodeBroken           Code = "broken"
	CodeNoSuccessor      Code = "no_successor"
	CodeCancelled        Code = "cancelled"
	CodeDeadlock         Code = "deadlock"
	CodeModeMismatch     Code = "mode_mismatch"
	CodeKeySpent         Code = "key_spent"
	CodeKeyInUse         Code = "key_in_use"
	CodeSessionPrivate   Code = "session_private"
	CodeRequestTooOld    Code = "request_too_old"
	CodeRefused          Code = "refused"
	CodeBodyTooLarge     Code = "body_too_large"
	CodeUnsupportedMedia Code = "unsupported_media_type"
	CodeWrongHost        Code = "wrong_host"
	CodeRequestMismatch  Code = "request_mismatch"
	CodeTooManyLocks     Code = "too_many_locks"
	CodeTooManyWaiters   Code = "too_many_waiters"
	CodeTooManySessions  Code = "too_many_sessions"
	CodeTooManyKeys      Code = "too_many_keys"
	CodeTooManyHolders   Code = "too_many_holders"
	CodeTooMuchText      Code = "too_much_text"
	CodeTooManyTasks     Code = "too_many_tasks"
	CodeTooManyStreams   Code = "too_many_streams"
	CodeNoTask           Code = "no_task"
	CodeNotClaimant      Code = "not_claimant"
	CodeTaskChanged      Code = "task_changed"
	CodeSlotPassed       Code = "slot_passed"
	CodeOverloaded       Code = "overloaded"
	CodeInternal         Code = "internal"
	CodeUnavailable      Code = "unavailable"
	CodeUnknown          Code = "unknown"
	CodeDiskFull         Code = "disk_full"
	CodeNotYetSupported  Code = "not_yet_supported"
)

// codeInfo is what the world sees of a code beside the sentence of the single case.
type codeInfo struct {
	status int
	title  string
	// Seconds for the Retry-After header; empty: none.
	retryAfter string
}

// codeTable is the one mapping from codes to HTTP.
var codeTable = map[Code]codeInfo{
	CodeInvalidRequest:   {http.StatusBadRequest, "The request is not valid", ""},
	CodeInvalidName:      {http.StatusBadRequest, "The name is not valid", ""},
	CodeInvalidBody:      {http.StatusBadRequest, "The body is not the JSON that was expected", ""},
	CodeInvalidField:     {http.StatusBadRequest, "A field or parameter is not valid", ""},
	CodeUnauthorized:     {http.StatusUnauthorized, "An API key is needed", ""},
	CodeTokenMissing:     {http.StatusUnauthorized, "A fencing token is needed", ""},
	CodeStaleToken:       {http.StatusForbidden, "The fencing token is not good any more", ""},
	CodeCrossSite:        {http.StatusForbidden, "Requests from other web sites are refused", ""},
	CodeNotFound:         {http.StatusNotFound, "There is nothing at this path", ""},
	CodeNotHeld:          {http.StatusNotFound, "The key does not hold the lock", ""},
	CodeNoSession:        {http.StatusNotFound, "There is no such session", ""},
	CodeMethodNotAllowed: {http.StatusMethodNotAllowed, "The path does not take this method", ""},
	CodeBodyTimeout:      {http.StatusRequestTimeout, "The body did not arrive in time", ""},
	CodeHeld:             {http.StatusConflict, "The lock is held", ""},
	CodeBroken:           {http.StatusConflict, "The hold was broken", ""},
	CodeNoSuccessor:      {http.StatusConflict, "The lock cannot be handed over", ""},
	CodeCancelled:        {http.StatusConflict, "The place in the queue was lost", ""},
	CodeDeadlock:         {http.StatusConflict, "The request would wait for itself", ""},
	CodeModeMismatch:     {http.StatusConflict, "The lock is used in another way", ""},
	CodeKeySpent:         {http.StatusConflict, "The key has been used up", ""},
	CodeKeyInUse:         {http.StatusConflict, "The key stands for something else", ""},
	CodeSessionPrivate:   {http.StatusConflict, "The session belongs to a single lock", ""},
	CodeRequestTooOld:    {http.StatusConflict, "The request number is too old", ""},
	CodeRefused:          {http.StatusConflict, "The cluster does not take the change", ""},
	CodeBodyTooLarge:     {http.StatusRequestEntityTooLarge, "The body is too large", ""},
	CodeUnsupportedMedia: {http.StatusUnsupportedMediaType, "The body must be JSON", ""},
	CodeWrongHost:        {http.StatusMisdirectedRequest, "This server does not answer for that host", ""},
	CodeRequestMismatch:  {http.StatusUnprocessableEntity, "The request number was used for another request", ""},
	CodeTooManyLocks:     {http.StatusTooManyRequests, "There are too many locks", retryLater},
	CodeTooManyWaiters:   {http.StatusTooManyRequests, "Too many wait for the lock", retryLater},
	CodeTooManySessions:  {http.StatusTooManyRequests, "There are too many sessions", retryLater},
	CodeTooManyKeys:      {http.StatusTooManyRequests, "There are too many holds and places", retryLater},
	CodeTooManyHolders:   {http.StatusTooManyRequests, "Too many hold the lock", retryLater},
	CodeTooMuchText:      {http.StatusTooManyRequests, "The texts take too much room", retryLater},
	CodeTooManyTasks:     {http.StatusTooManyRequests, "There are too many tasks", retryLater},
	CodeTooManyStreams:   {http.StatusTooManyRequests, "Too many follow events", retryLater},
	CodeNoTask:           {http.StatusNotFound, "There is no record of the task", ""},
	CodeNotClaimant:      {http.StatusConflict, "The key does not have the claim on the task", ""},
	CodeTaskChanged:      {http.StatusConflict, "The task stands otherwise", ""},
	CodeSlotPassed:       {http.StatusServiceUnavailable, "The slot of the schedule is not known", retrySoon},
	CodeOverloaded:       {http.StatusTooManyRequests, "The server is overloaded", retrySoon},
	CodeInternal:         {http.StatusInternalServerError, "The server made a mistake", ""},
	CodeUnavailable:      {http.StatusServiceUnavailable, "The server cannot answer now", retrySoon},
	CodeUnknown:          {http.StatusServiceUnavailable, "The outcome is not known", retrySoon},
	CodeDiskFull:         {http.StatusInsufficientStorage, "The server's disk is full", retryLater},
	CodeNotYetSupported:  {http.StatusNotImplemented, "The cluster is not upgraded yet", ""},
}

// Error is the one error type of the door.
type Error struct {
	Code Code
	// Detail is one sentence for the client. It carries no key and no session id.
	Detail string
	// field names the member, parameter or header that is wrong, if one is.
	field string
	// held is set with CodeHeld.
	held *locktable.Outcome
	// heldName is which lock of a set held is about, if that is known.
	heldName string
	// cycle may be set with CodeDeadlock.
	cycle *locktable.Chain
	// task may be set with CodeNotClaimant and CodeTaskChanged.
	task *locktable.TaskInfo
	// broken is set with CodeBroken, if it is remembered by whom and why.
	broken *brokenBy
	// allow lists the methods, with CodeMethodNotAllowed.
	allow string
	// cause is for the log, never for the client.
	cause error
}

func (e *Error) Error() string {
	if e.cause != nil {
		return string(e.Code) + ": " + e.Detail + ": " + e.cause.Error()
	}
	return string(e.Code) + ": " + e.Detail
}

func (e *Error) Unwrap() error { return e.cause }

func (e *Error) status() int { return codeTable[e.Code].status }

func fail(code Code, detail string) *Error { return &Error{Code: code, Detail: detail} }

func failField(field, detail string) *Error {
	return &Error{Code: CodeInvalidField, Detail: detail, field: field}
}

// errGone says that nobody is there to be answered.
var errGone = errors.New("the client went away")

// errNoTable is what a node says that has not found the others yet.
var errNoTable = fail(CodeUnavailable, "This node has not found the other nodes yet; ask another one, or again in a moment.")

// backendError turns an error of the Backend into what the client is told.
func backendError(ctx context.Context, err error) error {
	e := &Error{cause: err}
	switch {
	case ctx.Err() != nil:
		return errGone
	case errors.Is(err, node.ErrStopping):
		e.Code, e.Detail = CodeUnavailable, "The server is stopping; ask again in a moment."
	case errors.Is(err, node.ErrUnknown):
		e.Code, e.Detail = CodeUnknown, "The server could not learn whether the request took effect. Repeating it with the same key is safe."
	case errors.Is(err, node.ErrDiskFull):
		e.Code, e.Detail = CodeDiskFull, "The disk is nearly full; locks can be renewed and released, but not acquired."
	case errors.Is(err, node.ErrOverloaded):
		e.Code, e.Detail = CodeOverloaded, "More is asked of the server than it can do; ask again in a moment."
	case errors.Is(err, node.ErrUnavailable):
		e.Code, e.Detail = CodeUnavailable, "The server cannot reach a majority or its log at the moment; nothing was changed."
	case errors.Is(err, node.ErrNotYetSupported):
		e.Code, e.Detail = CodeNotYetSupported, notYetDetail(err)
	case errors.Is(err, node.ErrMalformed):
		e.Code, e.Detail = CodeInvalidRequest, "The request cannot be written down; some text in it is not valid."
	default:
		e.Code, e.Detail = CodeInternal, "Something went wrong inside the server."
	}
	return e
}

// notYetDetail says who keeps the cluster from what was asked.
func notYetDetail(err error) string {
	detail := "This can be used once every node of the cluster runs a version that knows it"
	if e := (*node.NotYetError)(nil); errors.As(err, &e) && len(e.Behind) > 0 {
		return detail + ": " + e.Error() + "."
	}
	return detail + "; doubledutch cluster status shows their versions."
}

// asError returns err as an *Error; what is not one becomes CodeInternal.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Detail: "Something went wrong inside the server.", cause: err}
}

// outcomeErrors says how a refusal by the lock table is told.
var outcomeErrors = map[locktable.Code]Error{
	locktable.Held:            {Code: CodeHeld, Detail: "The lock is held."}, // heldDetail says more
	locktable.Cancelled:       {Code: CodeCancelled, Detail: "The place in the queue was given up, or its session ended, before the lock became free."},
	locktable.Deadlock:        {Code: CodeDeadlock, Detail: "The acquire would wait for itself."}, // deadlockDetail says more
	locktable.ModeMismatch:    {Code: CodeModeMismatch, Detail: "The lock is in use with another number of slots, or without any, or this session holds it in the other mode."},
	locktable.KeySpent:        {Code: CodeKeySpent, Detail: "What this key or id stood for has ended; make a new one."},
	locktable.KeyInUse:        {Code: CodeKeyInUse, Detail: "This key or id stands for another lock, mode or session already."},
	locktable.NotHeld:         {Code: CodeNotHeld, Detail: "This key does not hold this lock."},
	locktable.Broken:          {Code: CodeBroken, Detail: "An operator ended the hold of this key."}, // brokenDetail says more
	locktable.NoSuccessor:     {Code: CodeNoSuccessor, Detail: "Nobody of that owner waits for the lock who could hold it now, or this is not its only hold."},
	locktable.NoSession:       {Code: CodeNoSession, Detail: "There is no session with this id; it may have ended or expired."},
	locktable.SessionPrivate:  {Code: CodeSessionPrivate, Detail: "This id is the key of a lock that was acquired without a session."},
	locktable.TooManyLocks:    {Code: CodeTooManyLocks, Detail: "The server keeps as many locks as it may."},
	locktable.TooManyWaiters:  {Code: CodeTooManyWaiters, Detail: "As many wait for this lock as may."},
	locktable.TooManySessions: {Code: CodeTooManySessions, Detail: "As many sessions are open as may be."},
	locktable.TooManyKeys:     {Code: CodeTooManyKeys, Detail: "The session, or the server as a whole, has as many holds and places as it may."},
	locktable.TooManyHolders:  {Code: CodeTooManyHolders, Detail: "As many hold this lock as may."},
	locktable.TooMuchText:     {Code: CodeTooMuchText, Detail: "Names, owners, metadata, results and the like of all locks, tasks and sessions take as much room as they may."},
	locktable.TooManyTasks:    {Code: CodeTooManyTasks, Detail: "The server keeps as many tasks as it may; forget some that are over."},
	locktable.NoTask:          {Code: CodeNoTask, Detail: "There is no record of this task; nobody has claimed it yet, or it was forgotten."},
	locktable.NotClaimant:     {Code: CodeNotClaimant, Detail: "This key does not have the claim on this task."},
	locktable.TaskChanged:     {Code: CodeTaskChanged, Detail: "The task has another token by now, or stands so that this does not apply to it."},
	locktable.SlotPassed:      {Code: CodeSlotPassed, Detail: "The present slot of the schedule could not be found out; the calendar of the cluster may have just been set. Ask again."},
	locktable.RequestTooOld:   {Code: CodeRequestTooOld, Detail: "The outcome of a request with this number is no longer remembered."},
	locktable.RequestMismatch: {Code: CodeRequestMismatch, Detail: "A request with this number came before and asked for something else."},
}

// refusal turns an outcome that is not a success into an error.
func refusal(out *locktable.Outcome) error {
	if out.Code == locktable.Invalid {
		return fail(CodeInvalidRequest, sentence(out.Detail))
	}
	e, ok := outcomeErrors[out.Code]
	if !ok {
		return &Error{Code: CodeInternal, Detail: "Something went wrong inside the server.", cause: errors.New("unexpected outcome")}
	}
	if out.Code == locktable.Held {
		e.held, e.Detail = out, heldDetail(out)
	}
	if out.Code == locktable.Deadlock {
		e.cycle, e.Detail = out.Cycle, deadlockDetail(out.Cycle)
	}
	if out.Code == locktable.Broken {
		e.Detail = brokenDetail(out)
	}
	return &e
}

// heldDetail says why there was no grant. What it tells of the lock is how it stands now, which for a repeated request
// need not be how it stood when the refusal was decided.
func heldDetail(out *locktable.Outcome) string {
	h, blocked := out.Holder, blockedFor(out)
	switch {
	case h == nil:
		return "The lock is held."
	case h.Holders == 0 && blocked > 0:
		return "Nobody holds the lock, but its last hold expired or was broken, and by the lock_delay nobody gets it for another " +
			string(appendMillis(nil, blocked)) + " seconds."
	case h.Holders == 0:
		return "The lock was held when this was asked first; nobody holds it now."
	case out.Slots > 0 && h.Holders >= int(out.Slots):
		return "All permits of the lock are taken."
	case out.Slots > 0:
		return "There was no permit to be had when this was asked."
	case out.Waited > 0:
		return "Somebody else held the lock until the wait ran out."
	}
	return "Somebody else holds the lock."
}

// blockedFor is how long a lock that nobody holds is still blocked by a delay.
func blockedFor(out *locktable.Outcome) time.Duration {
	if out.Holder == nil || out.Holder.Holders > 0 {
		return 0
	}
	return max(0, out.Holder.Deadline.Sub(out.Now))
}
