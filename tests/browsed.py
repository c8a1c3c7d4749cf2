"""What tests of the explorer in a browser share: a reader of a page, from a file or from a server.

What drives Chromium, playwright, is in the extras `dev` and `browser`; Chromium comes from the system.
The fixture `browser` (conftest.py) skips tests where one of them is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bslang.explorer.compiling import Compiling
from bslang.explorer.server import Server
from bslang.explorer.subject import Subject
from bslang.resolve.sources import source_of

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

INK = """
() => {
  const canvas = document.getElementById("canvas0");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let at = 0; at < pixels.length; at += 4) seen.add(pixels.slice(at, at + 4).join(","));
  return [...seen];
}
"""
"""The colours in the picture."""


def expect(thing: Any) -> Any:
    """playwright's assertions, which wait for what they say."""
    from playwright import sync_api

    return sync_api.expect(thing)


class Reader:
    """A reader of one page; complaints are what the console and the network had to say."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url))

    def text(self, id: str) -> str:
        return str(self.page.locator(f"#{id}").inner_text())

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def set(self, id: str, place: int) -> None:
        """Move a slider from where it is, by keys."""
        slider = self.page.locator(f"[id='{id}']")
        slider.focus()
        self.press("Home", *["ArrowRight"] * place)

    def wait_for(self, id: str, text: str) -> None:
        expect(self.page.locator(f"#{id}")).to_contain_text(text, timeout=10_000)


@contextmanager
def reading(browser: Any, address: str, **options: Any) -> Iterator[Reader]:
    context = browser.new_context(**options)
    reader = Reader(context.new_page())
    reader.page.goto(address)
    reader.wait_for("settings", "Length")
    reader.wait_for("spec", "block")
    yield reader
    context.close()
    assert not reader.complaints


@contextmanager
def served(
    browser: Any, spec: Path, name: str, lengths: tuple[int, ...] = (128, 256), address: str = ""
) -> Iterator[Reader]:
    def read() -> list[Subject]:
        return [Subject(f"spec.bsl:{name}", source_of(spec), name, lengths=lengths)]

    with Server(Compiling(read, [spec])) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            with reading(browser, f"http://127.0.0.1:{server.server_port}/{address}") as reader:
                reader.wait_for("live", "live")
                yield reader
        finally:
            server.shutdown()
            thread.join()
