"""The explorer's server: it asks the compiler, follows its files, and is shut to everybody else."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from explored import SPEC, data_of, read_rows, write_spec

from bslang.explorer.compiling import Compiling
from bslang.explorer.server import MAX_BODY, MAX_STREAMS, Server
from bslang.explorer.subject import Subject
from bslang.explorer.watch import stamps
from bslang.resolve.sources import source_of


class Client:
    """Asks a server, by default as a browser on this machine would."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def get(self, path: str, host: str = "", method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def json(self, path: str) -> Any:
        status, text = self.get(path)
        assert status == 200
        return json.loads(text)

    def post(self, path: str, body: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, {"Content-Type": "application/json", **given})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def ask(self, question: str, setting: dict[str, str] | None = None, **more: Any) -> Any:
        body = {"layout": 0, "setting": setting or {}, **more}
        status, text = self.post(f"/{question}", json.dumps(body))
        assert status == 200
        return json.loads(text)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return Path(write_spec(tmp_path))


@pytest.fixture
def client(spec: Path) -> Iterator[Client]:
    def read() -> list[Subject]:
        return [Subject("spec.bsl:near", source_of(spec), "near", lengths=(128, 256))]

    with Server(Compiling(read, [spec])) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield Client(server)
        server.shutdown()
        thread.join()


def test_the_server_has_the_page_and_any_value(client: Client) -> None:
    status, made = client.get("/")
    assert status == 200
    found = data_of(made)
    assert found["served"]
    assert len(found["layouts"][0]["keys"]) == 1
    assert "connect-src &#39;self&#39;" in made
    view = client.ask("view", {"seq-len": "1000", "w": "11", "r": "0"})
    assert (view["tokens"], view["rows"]) == (1000, 63)
    assert view["spec"] == "block 16x16\nwindow(11) | random(0, seed=5)\n"
    assert "even width" in client.ask("view", {"w": "4"})["errors"][0]["message"]
    for place in (None, 1, -1, "x", True, [0]):
        assert "no such layout" in client.ask("view", layout=place)["errors"][0]["message"]
    for body in ("[]", "7", '{"layout": 0, "setting": [1]}', '{"layout": 0, "setting": {"w": 3}}'):
        status, said = client.post("/view", body)
        assert status == 200 and json.loads(said)["errors"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1"]
)
def test_another_host_is_refused(client: Client, host: str) -> None:
    named = host.format(port=client.server.server_port)
    asked = [client.get(path, named) for path in ("/", "/data", "/events")]
    asked.append(client.post("/view", '{"layout": 0}', Host=named))
    asked.append(client.post("/view", '{"layout": 0}', Origin=f"http://{named}"))
    for status, text in asked:
        assert status == 421
        assert "window" not in text


def test_a_question_is_json_of_a_bounded_length(client: Client) -> None:
    """A form of another site, which a browser sends without asking for leave, is none."""
    body = '{"layout": 0}'
    assert client.post("/view", body)[0] == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.post("/view", body, Content_Type=kind)[0] == 415
    assert client.post("/view", "{")[0] == 400
    assert client.post("/view", "[" * 100_000)[0] == 400
    assert client.post("/view", "", Content_Length=str(MAX_BODY + 1))[0] == 413
    for length in ("", "-1", "x", "1e3"):
        assert client.post("/view", "", Content_Length=length)[0] == 411
    for path in ("/", "/data", "/other", "/view/x", "/spec.bsl"):
        assert client.post(path, body)[0] == 404
    assert client.get("/view", method="PUT")[0] == 501


def test_localhost_is_let_in_and_no_other_path_exists(client: Client, spec: Path) -> None:
    assert client.get("/", f"localhost:{client.server.server_port}")[0] == 200
    for path in ("/spec.bsl", f"/{spec}", "/../spec.bsl", "/%2e%2e/etc/passwd", "/view/x"):
        assert client.get(path)[0] == 404
    assert client.server.server_address[0] == "127.0.0.1"


def test_a_page_asks_for_tiles_masks_and_reasons(client: Client) -> None:
    setting = {"seq-len": "1000", "w": "3"}
    view = client.ask("view", setting)
    tile = client.ask("tile", setting, level=0, down=0, across=0)["cells"]
    blocks = view["figures"]["blocks"]
    cells = [cell for row in read_rows(tile, 63, 3) for cell in row]
    assert (
        sum((stop - start) * (full + partial) for start, stop, _, full, partial in cells) == blocks
    )
    assert (
        "no tile" in client.ask("tile", setting, level=0, down=1, across=0)["errors"][0]["message"]
    )
    assert client.ask("tile", setting, level="x")["errors"]
    near = {"top": 0, "bottom": 3, "left": 0, "right": 3}
    assert client.ask("masks", setting, **near) == {"bits": [], "at": []}
    assert client.ask("masks", setting, **{**near, "top": -1})["errors"]
    why = client.ask("why", setting, query=5, key=40)
    assert why["sees"] is False
    assert [reason["effect"] for reason in why["reasons"]] == ["lacks", "lacks"]
    assert why["reasons"][0]["marks"] == [[1, 21, 30]]
    assert (
        "position from 0 to 999"
        in client.ask("why", setting, query=5, key=1000)["errors"][0]["message"]
    )


def test_an_edited_spec_is_compiled_and_the_file_stays(client: Client, spec: Path) -> None:
    text = SPEC.replace("window(w) |", "cols(w) |")
    edited = client.ask("layout", text=text)
    assert "cols(3)" in edited["views"][0]["spec"]
    assert [axis["name"] for axis in edited["axes"]] == ["seq-len", "w", "r"]
    assert "cols(5)" in client.ask("view", {"w": "5"}, text=text)["spec"]
    wrong = client.ask("layout", text=text.replace("cols", "colz"))
    assert wrong["errors"][0]["code"] == "E201" and wrong["errors"][0]["marks"] == [[1, 21, 25]]
    assert "MAX_FILE_BYTES" in client.ask("layout", text="#" * 400_001)["errors"][0]["message"]
    outside = client.ask("layout", text='import "../other.bsl"\n' + text)
    assert outside["errors"][0]["code"].startswith("E")
    assert "window(3)" in client.ask("view")["spec"]
    assert spec.read_text(encoding="utf-8") == SPEC


def test_a_save_sends_an_event_and_errors_keep_the_last_views(client: Client, spec: Path) -> None:
    client.get("/")
    connection = http.client.HTTPConnection("127.0.0.1", client.server.server_port, timeout=20)
    version = client.json("/data")["version"]
    connection.request("GET", f"/events?since={version}")
    stream = connection.getresponse()
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    # The first thing that is said is that somebody is there.
    assert stream.readline() == b": here\n"
    spec.write_text(SPEC.replace("w = 3", "w = 5"), encoding="utf-8")
    assert _next_event(stream) == "changed"
    assert client.json("/data")["layouts"][0]["axes"][1]["values"] != []
    assert "window(5)" in client.ask("view", {"seq-len": "128"})["spec"]
    spec.write_text(SPEC.replace("window", "widow"), encoding="utf-8")
    assert _next_event(stream) == "changed"
    broken = client.json("/data")
    assert broken["errors"][0]["code"] == "E201"
    assert broken["errors"][0]["marks"]
    assert broken["sources"][0]["text"].count("widow") == 3
    assert "window(5)" in client.ask("view", {"seq-len": "128"})["spec"]
    assert data_of(client.get("/")[1])["errors"]
    connection.close()


def _next_event(stream: http.client.HTTPResponse) -> str:
    while True:
        line = stream.readline().decode()
        assert line
        if line.startswith("event: "):
            return line[7:].strip()


def test_files_that_a_spec_names_are_watched(tmp_path: Path) -> None:
    (tmp_path / "part.bsl").write_text("near = window(3)\n")
    spec = Path(write_spec(tmp_path, 'import "part.bsl"\nimport "../out.bsl"\nnear | cols(0)\n'))
    before = stamps([spec])
    assert set(before) == {spec, (tmp_path / "part.bsl").resolve()}
    (tmp_path / "part.bsl").write_text("near = window(35)\n")
    assert stamps([spec]) != before
    spec.unlink()
    assert stamps([spec]) == {spec: None}


def test_a_port_in_use_is_an_error_and_ctrl_c_an_end(spec: Path) -> None:
    command = [sys.executable, "-m", "bslang", "explorer", f"{spec}:near", "--serve"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*command, "--port", port], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot serve at port {port}: ")
    assert done.stderr.count("\n") == 1
    # What a shell starts in the background ignores Ctrl-C, and so do its children: tests among them.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            assert re.match(r"http://127\.0\.0\.1:\d+/ ", running.stdout.readline())
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 0
    assert said == ""


def test_event_streams_are_limited(client: Client) -> None:
    client.get("/")
    streams = []
    for _ in range(MAX_STREAMS):
        connection = http.client.HTTPConnection("127.0.0.1", client.server.server_port, timeout=20)
        connection.request("GET", "/events")
        assert connection.getresponse().status == 200
        streams.append(connection)
    status, said = client.get("/events")
    assert status == 503 and "too many pages" in said
    assert client.get("/data")[0] == 200
    for connection in streams:
        connection.close()


def test_nobody_waits_for_a_view_who_needs_none(
    client: Client, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the compiler is asked for one, the page, its data and events are answered."""
    client.get("/")
    asked, enough = threading.Event(), threading.Event()

    def slow(self: Subject, setting: Any) -> dict[str, Any]:
        asked.set()
        assert enough.wait(30)
        return {"slow": True}

    monkeypatch.setattr(Subject, "view", slow)
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(client.ask("view")))
    reader.start()
    try:
        assert asked.wait(30)
        assert client.get("/")[0] == 200
        version = client.json("/data")["version"]
        connection = http.client.HTTPConnection("127.0.0.1", client.server.server_port, timeout=20)
        connection.request("GET", f"/events?since={version}")
        stream = connection.getresponse()
        assert stream.readline() == b": here\n"
        spec.write_text(SPEC.replace("w = 3", "w = 5"), encoding="utf-8")
        assert client.server.compiling.refresh() == version  # it is not waited for
        assert not found
    finally:
        enough.set()
        reader.join()
    assert found == [{"slow": True}]
    assert _next_event(stream) == "changed"
    connection.close()
