"""A server for one page, on this machine only: it asks the compiler, and tells the page of changed files.

It answers GET for four paths and no others. A page of another site that has its name lead here is refused
by the Host that its requests have; one that fetches from here cannot read the answer, as none allows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bslang.budget import limited
from bslang.errors import BslangError
from bslang.explorer.data import Data, data, dump
from bslang.explorer.page import page
from bslang.explorer.subject import Subject
from bslang.explorer.view import View, diagnostic, message
from bslang.explorer.watch import Stamps, stamps
from bslang.syntax.diagnostics import SpecError

ADDRESS = "127.0.0.1"
POLL = 0.3
"""Seconds between two looks at the files."""

MAX_STREAMS = 16
"""Event streams at once, a page each; more are refused with status 503."""

_MAX_REQUESTS = 64  # at once, streams included; more are hung up on
_ALIVE = 15.0  # seconds after which an event stream says that it is there


class Compiling:
    """The subjects as their files are now.

    One thread at a time asks the compiler, which may take seconds; nobody waits for it who does not need
    its answer.
    """

    def __init__(self, read: Callable[[], Sequence[Subject]], paths: Sequence[Path]) -> None:
        """read: reads the subjects anew; paths: their files."""
        self._read, self._paths = read, paths
        self._working = threading.Lock()  # held while the compiler is asked
        self._state = threading.Lock()  # held while what follows is read or set, and no longer
        self._seen: Stamps = {}
        self._subjects: Sequence[Subject] = ()
        self._data: Data = {}
        self.version = 0

    def refresh(self, wait: bool = False) -> int:
        """Compile again if a file has changed since; the number of times that this was done.

        wait: for a compiler that is busy; else it is asked the next time.
        """
        if self._changed() and self._working.acquire(blocking=wait or self.version == 0):
            try:
                now = stamps(self._paths)
                if now != self._seen:  # it was not done meanwhile
                    made, subjects = self._compiled()
                    with self._state:
                        self._seen, self._data, self._subjects = now, made, subjects
                        self.version += 1
            finally:
                self._working.release()
        return self.version

    def _changed(self) -> bool:
        now = stamps(self._paths)
        with self._state:
            return now != self._seen

    def data(self) -> Data:
        """What the page is filled with, or `errors` where a spec has any."""
        self.refresh(wait=True)
        with self._state:
            return self._data | {"version": self.version}

    def view(self, query: str) -> View:
        """A view of the last specs without errors, for the query of its address."""
        asked = dict(parse_qsl(query, keep_blank_values=True))
        place = asked.pop("layout", "")
        with self._state:
            subjects = self._subjects
        if place not in map(str, range(len(subjects))):
            return {"errors": [message("there is no such layout here")]}
        with self._working, limited(anew=True):
            return subjects[int(place)].view_or_errors(asked)

    def _compiled(self) -> tuple[Data, Sequence[Subject]]:
        """What the page is filled with, and the subjects: the ones before, where a spec has errors."""
        subjects: Sequence[Subject] = ()
        try:
            with limited(anew=True):
                subjects = self._read()
                return data(subjects, served=True), subjects
        except SpecError as error:
            found = [diagnostic(d) for d in error.diagnostics]
            sources = {d.source.name: d.source.text for d in error.diagnostics}
        except BslangError as error:
            found = [message(str(error))]
            sources = {s.source.name: s.source.text for s in subjects}
        named = [{"name": name, "text": text} for name, text in sources.items()]
        title = " and ".join(str(path) for path in self._paths)
        empty = {"title": title, "served": True, "layouts": [], "left_out": [], "palette": []}
        return empty | {"errors": found, "sources": named}, self._subjects


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
                f"cannot serve at port {port}: {error.strerror}; name another by `--port`, or 0 for "
                "any that is free"
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
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(421, "text/plain", "this server answers to its own address only\n")
            return
        address = urlsplit(self.path)
        compiling = self.server.compiling
        if address.path == "/":
            self._answer(200, "text/html", page(compiling.data()))
        elif address.path == "/data":
            self._answer(200, "application/json", dump(compiling.data()))
        elif address.path == "/view":
            self._answer(200, "application/json", dump(compiling.view(address.query)))
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
