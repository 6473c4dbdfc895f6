// Package plainhttp answers the plain requests of HTTP/1.1 itself and leaves every other connection to net/http.
//
// net/http does far more than a lock server's usual client needs, and that is most of what such a request costs. So a
// [Listener] stands between the socket and an [net/http.Server]: it reads from each connection, and as long as what comes is
// plain, it has the request answered at once. With the first byte that is not, the connection comes out of Accept with all
// that was read but not answered, and net/http has it for good. It decides about all that is malformed, large, slow, chunked,
// upgraded or streamed; here nothing is ever refused.
//
// A plain request
//
//   - is a GET, POST, PUT or DELETE by HTTP/1.1, whose target is a path of unescaped characters, perhaps with a query;
//   - has one Host, at most one of every other header, all of printable ASCII, and none that says how the connection or the
//     transfer is to be treated, except Content-Length and "Connection: keep-alive";
//   - fits into 4 KiB with its body, and comes within a second from its first byte on;
//   - is one that the handler says it answers at once.
//
// What the handler gets is what it would get from net/http; the tests hold the two against each other (FuzzParse, FuzzTalk).
// What differs:
//
//   - the request, its header, URL and body are used again for the next one; the handler keeps none of them;
//   - the context of the request is that of the connection: it does not end when the client hangs up, since nobody reads
//     while the request is handled;
//   - the answer leaves at once when it is flushed or the handler returns, with a Content-Length; nothing can be streamed.
package plainhttp
