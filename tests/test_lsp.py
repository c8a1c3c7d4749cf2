"""`bslang lsp` as an editor uses it: a real client that starts it and speaks the protocol with it."""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient
from test_cli import Run, run

from bslang.editors.server import _NoRefusals

__all__ = ["run"]  # the fixture

SPEC = """\
# Größe 😀
import "größer😀.bsl" as o

streaming(w = 4) = (last(w) | cols(0)) & causal
mine = streaming(w=3) | o.wide
"""
TIMEOUT = 60.0
"""Seconds after which a server that does not answer is taken for one that hangs."""


class Client(LanguageClient):
    """An editor with one document open."""

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__("test", "1")
        self.encoding = f"{encoding}-le" if encoding != "utf-8" else encoding
        self.unit = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
        self.uri, self.version, self.text = path.as_uri(), 0, ""
        self.published: asyncio.Queue[types.PublishDiagnosticsParams] = asyncio.Queue()

        @self.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def publish(params: types.PublishDiagnosticsParams) -> None:
            self.published.put_nowait(params)

    def open(self, text: str) -> None:
        self.text = text
        item = types.TextDocumentItem(self.uri, "bslang", 0, text)
        self.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def change(self, text: str) -> None:
        self.version, self.text = self.version + 1, text
        which = types.VersionedTextDocumentIdentifier(self.version, self.uri)
        whole = types.TextDocumentContentChangeWholeDocument(text)
        self.text_document_did_change(types.DidChangeTextDocumentParams(which, [whole]))

    async def problems(self, version: int | None = None) -> list[types.Diagnostic]:
        """The next diagnostics, or the next of a version."""
        while True:
            found = await self.published.get()
            if found.uri == self.uri and version in (None, found.version):
                return [*found.diagnostics]

    @property
    def document(self) -> types.TextDocumentIdentifier:
        return types.TextDocumentIdentifier(self.uri)

    def position(self, word: str, after: str = "") -> types.Position:
        """Where a word begins, behind another, in units of the encoding."""
        offset = self.text.index(word, self.text.index(after))
        lines = self.text[:offset].split("\n")
        return types.Position(len(lines) - 1, len(lines[-1].encode(self.encoding)) // self.unit)

    def text_in(self, place: types.Range) -> str:
        lines = self.text.split("\n")
        assert place.start.line == place.end.line
        data = lines[place.start.line].encode(self.encoding)
        first, last = (self.unit * end.character for end in (place.start, place.end))
        return data[first:last].decode(self.encoding)

    async def quit(self) -> int:
        """Shut the server down; its exit status."""
        await self.shutdown_async(None)
        self.exit(None)
        assert self._server is not None
        return await self._server.wait()


@asynccontextmanager
async def session(path: Path, encoding: str) -> AsyncIterator[Client]:
    """encoding: one that the client asks for; utf-16 if it says nothing."""
    client = Client(path, encoding)
    await client.start_io(sys.executable, "-m", "bslang", "lsp", "--stdio")
    try:
        offered = [types.PositionEncodingKind(encoding)] if encoding != "utf-16" else None
        general = types.GeneralClientCapabilities(position_encodings=offered)
        capabilities = types.ClientCapabilities(general=general)
        root = path.parent.as_uri()
        started = await client.initialize_async(
            types.InitializeParams(capabilities, root_uri=root, process_id=os.getpid())
        )
        assert started.server_info and started.server_info.name == "bslang"
        client.initialized(types.InitializedParams())
        yield client
    finally:
        if client._server is not None and client._server.returncode is None:
            client._server.kill()
        await client.stop()


def speak(path: Path, talk: Callable[[Client], Awaitable[None]], encoding: str = "utf-16") -> None:
    """Run a conversation with a server, which ends well."""

    async def whole() -> None:
        async with session(path, encoding) as client:
            await talk(client)
            assert await client.quit() == 0

    asyncio.run(asyncio.wait_for(whole(), TIMEOUT))


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "größer😀.bsl").write_text("# What is far.\nwide = window(9)\n", encoding="utf-8")
    return tmp_path / "spec.bsl"


def test_a_session(spec: Path) -> None:
    async def talk(client: Client) -> None:
        client.open(SPEC.replace("cols", "colls"))
        (error,) = await client.problems()
        assert error.code == "E201" and error.severity is types.DiagnosticSeverity.Error
        assert client.text_in(error.range) == "colls"
        assert "did you mean `cols`?" in error.message

        (fix,) = await quick_fixes(client, error.range)
        assert fix.title == "Change `colls` to `cols`" and [*(fix.diagnostics or ())] == [error]
        assert fix.kind == types.CodeActionKind.QuickFix and fix.edit and fix.edit.changes
        (edit,) = fix.edit.changes[client.uri]
        assert client.text_in(edit.range) == "colls" and edit.new_text == "cols"
        assert not await quick_fixes(client, error.range, types.CodeActionKind.Refactor)
        assert not await quick_fixes(
            client, types.Range(types.Position(0, 0), types.Position(0, 1))
        )

        client.change(SPEC)
        assert await client.problems(client.version) == []

        at = types.TextDocumentPositionParams(client.document, client.position("last"))
        hover = await client.text_document_hover_async(
            types.HoverParams(at.text_document, at.position)
        )
        assert hover and isinstance(hover.contents, types.MarkupContent)
        assert "last(w)" in hover.contents.value and "██" in hover.contents.value
        assert hover.range and client.text_in(hover.range) == "last"

        uses = await client.text_document_references_async(
            types.ReferenceParams(
                types.ReferenceContext(True), client.document, client.position("o\n")
            )
        )
        assert [client.text_in(use.range) for use in uses or ()] == ["o", "o"]

        place = await client.text_document_definition_async(
            types.DefinitionParams(client.document, client.position("wide"))
        )
        assert isinstance(place, types.Location)
        assert place.uri == (spec.parent / "größer😀.bsl").as_uri()
        assert place.range.start == types.Position(1, 0)

        uses = await client.text_document_references_async(
            types.ReferenceParams(
                types.ReferenceContext(True), client.document, client.position("w =")
            )
        )
        assert [client.text_in(use.range) for use in uses or ()] == ["w", "w", "w"]

        renamed = await client.text_document_rename_async(
            types.RenameParams(client.document, client.position("streaming"), "stream")
        )
        assert renamed and renamed.changes
        edits = renamed.changes[client.uri]
        assert [client.text_in(edit.range) for edit in edits] == ["streaming", "streaming"]
        with pytest.raises(JsonRpcException, match="`causal` is a primitive"):
            await client.text_document_rename_async(
                types.RenameParams(client.document, client.position("causal"), "x")
            )
        with pytest.raises(JsonRpcException, match="rename it there"):
            await client.text_document_prepare_rename_async(
                types.PrepareRenameParams(client.document, client.position("wide"))
            )

        outline = await client.text_document_document_symbol_async(
            types.DocumentSymbolParams(client.document)
        )
        assert [entry.name for entry in outline or ()] == ["größer😀.bsl", "streaming", "mine"]

    speak(spec, talk)


async def quick_fixes(
    client: Client, place: types.Range, only: types.CodeActionKind | None = None
) -> list[types.CodeAction]:
    context = types.CodeActionContext([], [only] if only else None)
    params = types.CodeActionParams(client.document, place, context)
    found = await client.text_document_code_action_async(params)
    return [action for action in found or () if isinstance(action, types.CodeAction)]


def test_files_that_cannot_be_read_have_nothing_in_them(spec: Path) -> None:
    """A client may ask of a file that it has not opened: one that is gone, or no text."""
    (spec.parent / "bytes.bsl").write_bytes(b"\xff\xfe")
    (spec.parent / "folder.bsl").mkdir()

    async def talk(client: Client) -> None:
        for name in ("missing.bsl", "bytes.bsl", "folder.bsl"):
            document = types.TextDocumentIdentifier((spec.parent / name).as_uri())
            place = types.Position(3, 2)
            assert (
                await client.text_document_hover_async(types.HoverParams(document, place)) is None
            )
            assert not await client.text_document_document_symbol_async(
                types.DocumentSymbolParams(document)
            )
            with pytest.raises(JsonRpcException, match="there is no name here"):
                await client.text_document_rename_async(types.RenameParams(document, place, "x"))
        # and one that comes to be is read then
        late = spec.parent / "missing.bsl"
        late.write_text("near = last(2)\n", encoding="utf-8")
        found = await client.text_document_hover_async(
            types.HoverParams(types.TextDocumentIdentifier(late.as_uri()), types.Position(0, 8))
        )
        assert found is not None

    speak(spec, talk)


def test_what_is_refused_is_not_logged_as_a_fault(
    spec: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(client: Client) -> None:
        client.open(SPEC)
        await client.problems()
        with pytest.raises(JsonRpcException, match="`causal` is a primitive"):
            await client.text_document_rename_async(
                types.RenameParams(client.document, client.position("causal"), "x")
            )

    speak(spec, talk)
    assert "Traceback" not in capfd.readouterr().err
    error = JsonRpcException("refused", types.LSPErrorCodes.RequestFailed.value)
    for fault, logged in ((error, False), (JsonRpcException("bug", -32603), True)):
        info = (type(fault), fault, None)
        record = logging.LogRecord("x", logging.ERROR, "x", 1, "x", None, info)
        assert _NoRefusals().filter(record) is logged


def test_what_is_asked_while_typing(spec: Path) -> None:
    async def talk(client: Client) -> None:
        text = f"{SPEC}z = window(3, st"
        client.open(text)
        assert [error.code for error in await client.problems()] == ["E103"]
        end = types.Position(5, len("z = window(3, st"))
        items = await client.text_document_completion_async(
            types.CompletionParams(client.document, end)
        )
        assert isinstance(items, list)
        assert [item.label for item in items] == ["step=", "streaming", "strided"]
        edit = items[0].text_edit
        assert isinstance(edit, types.TextEdit) and client.text_in(edit.range) == "st"
        form = await client.text_document_signature_help_async(
            types.SignatureHelpParams(client.document, end)
        )
        assert form and form.signatures[0].label.startswith("window(w=..., left=...")
        with pytest.raises(JsonRpcException, match="not formatted: fix the error in line 6"):
            await formatted(client)

        client.change(f"{SPEC}z=window( 3 )\n")
        await client.problems(client.version)
        (whole,) = await formatted(client) or ()
        assert whole.new_text == f"{SPEC}z = window(3)\n"
        assert whole.range == types.Range(types.Position(0, 0), types.Position(6, 0))
        client.change(whole.new_text)
        assert not await formatted(client)

    speak(spec, talk)


async def formatted(client: Client) -> Any:
    options = types.FormattingOptions(4, True)
    return await client.text_document_formatting_async(
        types.DocumentFormattingParams(client.document, options)
    )


def test_a_file_that_is_saved_is_read_by_those_that_import_it(spec: Path) -> None:
    async def talk(client: Client) -> None:
        client.open(SPEC)
        assert await client.problems() == []
        other = spec.parent / "größer😀.bsl"
        other.write_text("wide = windw(9)\n", encoding="utf-8")
        saved = types.TextDocumentIdentifier(other.as_uri())
        client.text_document_did_save(types.DidSaveTextDocumentParams(saved))
        (error,) = await client.problems()
        assert client.text_in(error.range) == '"größer😀.bsl"'
        assert error.message.startswith("größer😀.bsl: unknown name")
        (related,) = error.related_information or ()
        assert related.location.uri == other.as_uri()
        hover = await client.text_document_hover_async(
            types.HoverParams(client.document, client.position("o\n"))
        )
        assert hover and hover.range and client.text_in(hover.range) == "o"

    speak(spec, talk, encoding="utf-8")


HOSTILE = {
    "many errors": "\n".join(f"x{i} = windw({i}" for i in range(5000)),
    "large": "".join(f"# {'😀' * 100}\nd{i} = last(3) | cols({i % 100})\n" for i in range(800)),
    "deep": "a = " + "(" * 50_000,
    "signs": "".join(map(chr, range(1, 700))) * 50,
    "lone surrogates": "# \ud83d\nwindw(3)",
}


def test_hostile_documents_are_answered(spec: Path) -> None:
    async def talk(client: Client) -> None:
        client.open("")
        await client.problems()
        for name, text in HOSTILE.items():
            client.change(text)
            found = await client.problems(client.version)
            assert bool(found) == (name != "large"), name
            place = types.Position(text.count("\n"), 10**6)
            await client.text_document_hover_async(types.HoverParams(client.document, place))
            await client.text_document_completion_async(
                types.CompletionParams(client.document, place)
            )
            await client.text_document_document_symbol_async(
                types.DocumentSymbolParams(client.document)
            )
        client.change("window(3)\n")
        assert await client.problems(client.version) == []

    speak(spec, talk)


def test_messages_that_are_none(spec: Path) -> None:
    """A document that is not open, a method that is unknown, parts that are missing: the server goes on."""

    def message(method: str, params: object, number: int) -> bytes:
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        data = json.dumps(body).encode()
        return b"Content-Length: %d\r\n\r\n%s" % (len(data), data)

    at = {"textDocument": {"uri": spec.as_uri()}, "position": {"line": 3, "character": 1}}
    sent = [
        message("initialize", {"capabilities": {}, "processId": None, "rootUri": None}, 1),
        message("textDocument/hover", at, 2),
        message("textDocument/hover", {"position": 3}, 3),
        message("bslang/nothing", {}, 4),
        b"Content-Length: 9\r\n\r\nnot JSON!",
        message("shutdown", None, 5),
        message("exit", None, 6),
    ]
    command = [sys.executable, "-m", "bslang", "lsp"]
    done = subprocess.run(
        command, input=b"".join(sent), capture_output=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    for number in (1, 2, 4, 5):  # pygls reports the third, and answers nothing
        assert b'"id": %d' % number in done.stdout or b'"id":%d' % number in done.stdout


def test_a_server_that_is_left_ends() -> None:
    command = [sys.executable, "-m", "bslang", "lsp"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1 and done.stdout == b""


def test_without_pygls(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] in ("pygls", "lsprotocol"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imported(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "bslang.editors.server", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    done = run("lsp")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: this needs ") and len(done.err.splitlines()) == 1
    assert done.err.endswith('run: pip install "bslang[lsp]"\n')
