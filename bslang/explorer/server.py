"""A server for one page, on this machine only: it asks the compiler, and tells the page of changed files.

It answers GET for the page, its data and events, and POST for questions of the page, whose answers change
nothing here. A page of another site that has its name lead here is refused by the Host that its requests
have; one that fetches from here cannot read the answer, as none allows it, and cannot ask questions, as
these are JSON, for which a browser asks for leave that nobody gives.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bslang.errors import BslangError
from bslang.explorer.compiling import QUESTIONS, Compiling
from bslang.explorer.data import dump
from bslang.explorer.page import page
from bslang.limits import MAX_FILE_BYTES

ADDRESS = "127.0.0.1"
POLL = 0.3
"""Seconds between two looks at the files."""

MAX_STREAMS = 16
"""Event streams at once, a page each; more are refused with status 503."""

MAX_BODY = 4 * MAX_FILE_BYTES
"""Bytes of a question: the text of a spec, written as JSON."""

_MAX_REQUESTS = 64  # at once, streams included; more are hung up on
_ALIVE = 15.0  # seconds after which an event stream says that it is there


class Server(ThreadingHTTPServer):
    """Serves the page of `compiling` at 127.0.0.1."""

    daemon_threads = True

    def __init__(self, compiling: Compiling, port: int = 0) -> None:
        """port: 0 for any that is free. Raises BslangError where it cannot be had."""
        self.compiling = compiling
        self.stopping = threading.Event()
        self.streams = threading.BoundedSemaphore(MAX_STREAMS)
        self._requests = threading.BoundedSemaphore(_MAX_REQUESTS)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise BslangError(
                f"cannot serve at port {port}: {error.strerror}; choose another with `--port`, or 0 for "
                "a free one"
            ) from None

    @property
    def hosts(self) -> tuple[str, ...]:
        """What the Host of a request may be."""
        return tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, if there are not too many."""
        if self._requests.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread of a request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._requests.release()

    def server_close(self) -> None:
        self.stopping.set()
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes away is no error; others are bugs, and are shown."""
        import sys

        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60
    server_version, sys_version = "bslang", ""

    def do_GET(self) -> None:
        if not self._let_in():
            return
        address = urlsplit(self.path)
        compiling = self.server.compiling
        if address.path == "/":
            self._answer(200, "text/html", page(compiling.data()))
        elif address.path == "/data":
            self._answer(200, "application/json", dump(compiling.data()))
        elif address.path == "/events":
            if not self.server.streams.acquire(blocking=False):
                self._answer(503, "text/plain", "too many pages follow these files; close some\n")
                return
            try:
                self._events(dict(parse_qsl(address.query)).get("since", ""))
            finally:
                self.server.streams.release()
        else:
            self._answer(404, "text/plain", "there is nothing else here\n")

    def do_POST(self) -> None:
        question = self.path.removeprefix("/")
        if not self._let_in():
            return
        size = self.headers.get("Content-Length", "")
        if question not in QUESTIONS:
            self._answer(404, "text/plain", "there is nothing else here\n")
        elif self.headers.get("Content-Type") != "application/json":
            self._answer(415, "text/plain", "a question is JSON\n")
        elif not (size.isascii() and size.isdecimal() and len(size) < 10):
            self._answer(411, "text/plain", "a question says how long it is\n")
        elif int(size) > MAX_BODY:
            self._answer(413, "text/plain", f"a question has up to {MAX_BODY:,} bytes\n")
        else:
            try:
                asked = json.loads(self.rfile.read(int(size)))
            except (ValueError, RecursionError):
                self._answer(400, "text/plain", "a question is JSON\n")
                return
            found = self.server.compiling.answer(question, asked)
            self._answer(200, "application/json", dump(found))

    def _let_in(self) -> bool:
        """Whether a request comes from a page of this server; others are refused."""
        hosts = self.server.hosts
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in hosts and (
            origin is None or origin.removeprefix("http://") in hosts
        ):
            return True
        self._answer(421, "text/plain", "this server answers to its own address only\n")
        return False

    def _answer(self, status: int, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self._headers(kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")

    def _events(self, since: str) -> None:
        """An event `changed` after each change of a file since a version, until the reader goes away."""
        self.send_response(200)
        self._headers("text/event-stream")
        self.end_headers()
        seen, spoken = since, float("-inf")
        while True:
            version = str(self.server.compiling.refresh())
            if version != seen:
                self.wfile.write(f"event: changed\ndata: {version}\n\n".encode())
                seen, spoken = version, time.monotonic()
            elif time.monotonic() - spoken > _ALIVE:
                self.wfile.write(b": here\n\n")
                spoken = time.monotonic()
            if self.server.stopping.wait(POLL):
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: the terminal says where the page is, and no more."""
