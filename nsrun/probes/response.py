"""What an HTTP server answers, read with llhttp; and what a kubelet says when it cannot be read."""

from __future__ import annotations

import re

import httptools

from nsrun.probes.outcome import OUTPUT_MAX, ProbeError
from nsrun.probes.wording import quoted

LINE_MAX = 256
"""So much of a first line that makes no sense is kept to be told of."""

_BODYLESS = {204, 304}


class Reader:
    """Fed with what comes, until `done`.

    Attributes:
        status: of the response, once it `began`; the 1xx before it are only counted, in `informational`.
        began: its head is complete.
        done: nothing that comes after this matters.
        size: bytes of heads so far.
        body: no more than a chunk beyond 10 KiB.
        location: the header's value.
    """

    def __init__(self) -> None:
        self.status = 0
        self.informational = 0
        self.began = False
        self.done = False
        self.size = 0
        self.body = bytearray()
        self.location: str | None = None
        self._start = bytearray()
        self._length_known = False
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            # Go takes bare newlines, and looks at nothing after the end of a response.
            lenient_optional_cr_before_lf=True,
            lenient_data_after_close=True,
            lenient_version=True,
        )

    def feed(self, data: bytes) -> None:
        """Take what came.

        Raises:
            ProbeError: it is no HTTP response; once it `began`, its body is broken.
        """
        if not self.began:
            self.size += len(data)
            if len(self._start) < LINE_MAX:
                self._start += data[: LINE_MAX - len(self._start)]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # 101: there is no other response after it.
            self.done = True
        except httptools.HttpParserError as error:
            if self.done:
                return
            if self.began:
                raise ProbeError(_body_words(str(error))) from error
            raise ProbeError(f"net/http: HTTP/1.x transport connection broken: {self._malformed(error)}") from error

    def end(self) -> None:
        """The other side has said all that it wants to.

        Raises:
            ProbeError: there was to be more.
        """
        if not self.began:
            if not self._start:
                raise ProbeError("EOF")
            raise ProbeError("net/http: HTTP/1.x transport connection broken: unexpected EOF")
        if self._length_known and not self.done:
            raise ProbeError("unexpected EOF")
        self.done = True

    def _malformed(self, error: Exception) -> str:
        """What Go says of a head that it does not understand (net/http/response.go ReadResponse)."""
        line = self._start.split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8", "surrogateescape")
        proto, space, rest = line.partition(" ")
        code = rest.lstrip(" ").partition(" ")[0]
        if not space:
            return f"malformed HTTP response {quoted(line)}"
        if not re.fullmatch(r"[0-9]{3}", code):
            return f"malformed HTTP status code {quoted(code)}"
        if not re.fullmatch(r"HTTP/[0-9]\.[0-9]", proto):
            return f"malformed HTTP version {quoted(proto)}"
        return f"malformed MIME header: {str(error).lower()}"

    # called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the head that is being read."""
        word = name.lower()
        if word in (b"content-length", b"transfer-encoding"):
            self._length_known = True
        elif word == b"location":
            self.location = value.decode("utf-8", "surrogateescape")

    def on_headers_complete(self) -> None:
        """The head is complete."""
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.informational += 1
            self.location, self._length_known = None, False
            return
        self.status = status
        self.began = True
        if status in _BODYLESS:
            self.done = True

    def on_body(self, data: bytes) -> None:
        """Some of the body."""
        if self.done:
            return
        self.body += data
        if len(self.body) >= OUTPUT_MAX:
            self.done = True

    def on_message_complete(self) -> None:
        """The end of a response, which may be an informational one."""
        if self.began:
            self.done = True


def _body_words(text: str) -> str:
    """llhttp's words of a broken chunk in Go's (net/http/internal/chunked.go)."""
    if "chunk size" in text.lower():
        return "invalid byte in chunk length"
    return "malformed chunked encoding"
