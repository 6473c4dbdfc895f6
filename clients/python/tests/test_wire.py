"""Bytes to answers, however they are cut; and what no answer is."""

from __future__ import annotations

import unittest

from doubledutch import protocol
from doubledutch.protocol import Want
from doubledutch.wire import AnswerReader, Request, WireError, parse_endpoint

ANSWERS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", 404, b"", True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\nyou\r\n0\r\n\r\n", 200, b"hiyou", True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", 200, b"", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    (b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 503, b"x", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x", False),
]


class AnswerReaderTest(unittest.TestCase):
    def test_answers_in_pieces(self) -> None:
        for data, status, body, reusable in ANSWERS:
            for size in (1, 3, len(data)):
                with self.subTest(data=data, size=size):
                    reader = AnswerReader()
                    for at in range(0, len(data), size):
                        self.assertFalse(reader.complete)
                        reader.feed(data[at : at + size])
                    self.assertTrue(reader.complete)
                    self.assertEqual((reader.answer().status, reader.answer().body), (status, body))
                    self.assertEqual(reader.reusable, reusable)

    def test_until_the_end_of_the_connection(self) -> None:
        reader = AnswerReader()
        reader.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
        self.assertFalse(reader.complete)
        reader.feed(b"")
        self.assertEqual((reader.complete, reader.reusable, reader.answer().body), (True, False, b"abc"))

    def test_no_answers(self) -> None:
        for data in [
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            b"x" * (65 << 10),
        ]:
            with self.subTest(data=data[:40]):
                self.assertRaises(WireError, AnswerReader().feed, data)

    def test_an_answer_that_is_cut_off(self) -> None:
        for data, _, _, _ in ANSWERS:
            for length in range(len(data)):
                reader = AnswerReader()
                if length:
                    reader.feed(data[:length])
                if not reader.complete:
                    self.assertRaises(WireError, reader.feed, b"")

    def test_more_than_one_answer_makes_a_connection_unusable(self) -> None:
        reader = AnswerReader()
        reader.feed(ANSWERS[0][0] + b"more")
        self.assertEqual((reader.complete, reader.reusable), (True, False))


class RequestTest(unittest.TestCase):
    def test_bytes(self) -> None:
        request = Request("DELETE", "/v1/holds", None, (("Lock-Key", "k"),))
        want = b"DELETE /dd/v1/holds HTTP/1.1\r\nHost: h:1\r\nLock-Key: k\r\nContent-Length: 0\r\n\r\n"
        self.assertEqual(request.encode(parse_endpoint("http://h:1/dd/")), want)
        self.assertNotIn("k'", repr(request), "no secret is in what may be logged")

    def test_endpoints(self) -> None:
        for text, shown in [("h", "http://h:7333"), ("https://h:443", "https://h"), ("http://[::1]:80", "http://[::1]")]:
            self.assertEqual(str(parse_endpoint(text)), shown)
        for text in ("", "ftp://h", "http://u:p@h", "http://h?x", "http://h:x"):
            self.assertRaises(ValueError, parse_endpoint, text)

    def test_names(self) -> None:
        self.assertEqual(protocol.show("a/b ü?").path, "/v1/locks/a%2Fb%20%C3%BC%3F")
        for name in ("", ".", "..", "\ud800"):
            self.assertRaises(ValueError, protocol.show, name)
        target = protocol.lock_target(["a", Want("b", shared=True), Want("c", slots=3)], False, None)
        names = [{"name": "a"}, {"name": "b", "mode": "shared"}, {"name": "c", "slots": 3}]
        self.assertEqual((target.path, target.members, target.names), ("/v1/locks", (("names", names),), ("a", "b", "c")))
        self.assertRaises(ValueError, protocol.lock_target, [], False, None)

    def test_keys(self) -> None:
        keys = {protocol.new_key() for _ in range(100)}
        self.assertEqual(len(keys), 100)
        self.assertTrue(all(len(k) == 32 and k.isascii() and k.isalnum() for k in keys))

    def test_texts_are_clipped(self) -> None:
        self.assertEqual(protocol.clip("a\x00b\nc"), "a b\nc")
        self.assertEqual(protocol.clip("ü" * 10, 5), "üü")
        self.assertEqual(protocol.clip("\ud800"), " ")


if __name__ == "__main__":
    unittest.main()
