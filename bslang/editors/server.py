"""The language server: what `bslang.editors` knows of documents, in the words of the protocol.

Every answer is computed by a pure function of a document; here positions and names are translated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

from lsprotocol import types
from pygls import uris
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from bslang._version import __version__
from bslang.editors import complete, outline, rename
from bslang.editors.diagnose import Problem, fixes, problems
from bslang.editors.document import Document
from bslang.editors.hover import hover
from bslang.editors.names import Kind, place_of
from bslang.editors.positions import Positions
from bslang.limits import MAX_FILES
from bslang.resolve.sources import source_of, specs_in
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.format import formatted
from bslang.syntax.source import Source, Span

PAUSE = 0.2
"""Seconds without a change after which a document is looked at."""

_ITEM_KINDS: dict[Kind | str, types.CompletionItemKind] = {
    Kind.PRIMITIVE: types.CompletionItemKind.Function,
    Kind.FUNCTION: types.CompletionItemKind.Function,
    Kind.DEFINITION: types.CompletionItemKind.Function,
    Kind.ARGUMENT: types.CompletionItemKind.Property,
    Kind.PARAMETER: types.CompletionItemKind.Variable,
    Kind.NUMBER: types.CompletionItemKind.Constant,
    Kind.VARIABLE: types.CompletionItemKind.Variable,
    Kind.LABEL: types.CompletionItemKind.Variable,
    Kind.ALIAS: types.CompletionItemKind.Module,
    "file": types.CompletionItemKind.File,
    "keyword": types.CompletionItemKind.Keyword,
}
_SYMBOL_KINDS = {
    "definition": types.SymbolKind.Function,
    "layout": types.SymbolKind.Object,
    "import": types.SymbolKind.Module,
    "block": types.SymbolKind.Property,
    "order": types.SymbolKind.Property,
    "version": types.SymbolKind.Property,
}


class Server(LanguageServer):
    """Knows the open documents; asked to shut down, it says so in `asked_to_stop`."""

    def __init__(self) -> None:
        # Whole texts: line ends are counted as the compiler does, and specs are small.
        super().__init__("bslang", __version__, types.TextDocumentSyncKind.Full)
        self.asked_to_stop = False
        self._open: dict[str, Document] = {}

    def document(self, uri: str) -> Document:
        """A document as it is now; an empty one where it is not open and cannot be read."""
        if uri not in self._open:
            try:
                text = self.workspace.get_text_document(uri).source
            except (
                OSError,
                ValueError,
            ):  # not open, and no file that can be read: nothing is in it
                return Document.of("", _path(uri))
            self._open[uri] = Document.of(text, _path(uri))
        return self._open[uri]

    def forget(self, uri: str | None = None) -> None:
        """Look anew at a document that has changed, or at all, where a file has."""
        self._open = {} if uri is None else {u: d for u, d in self._open.items() if u != uri}

    def opened(self) -> list[str]:
        """The open documents."""
        return [*self.workspace.text_documents]

    def positions(self, source: Source) -> Positions:
        """Positions of a source in the units that the client counts in."""
        agreed = self.workspace.position_encoding or types.PositionEncodingKind.Utf16
        return Positions(source, types.PositionEncodingKind(agreed).value)

    def range(self, source: Source, span: Span) -> types.Range:
        """A span as a range."""
        positions = self.positions(source)
        start, end = (types.Position(*positions.position(o)) for o in (span.start, span.stop))
        return types.Range(start, end)

    def offset(self, params: _AtPosition) -> tuple[Document, int]:
        """The document and offset that a request is about."""
        document = self.document(params.text_document.uri)
        place = params.position
        return document, self.positions(document.source).offset(place.line, place.character)

    def location(self, uri: str, source: Source, span: Span) -> types.Location:
        """A place of a source; uri: of the document that asks, whose own text has no other."""
        own = place_of(self.document(uri).source) == place_of(source)
        there = uri if own else uris.from_fs_path(place_of(source)) or uri
        return types.Location(there, self.range(source, span))

    def publish(self, uri: str) -> None:
        """Send the problems of a document."""
        if uri not in self.workspace.text_documents:
            return  # closed meanwhile
        document = self.document(uri)
        found = [self.diagnostic(uri, document, problem) for problem in problems(document)]
        version = self.workspace.get_text_document(uri).version
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, found, version))

    def diagnostic(self, uri: str, document: Document, problem: Problem) -> types.Diagnostic:
        """A problem of a document, as clients are told of it."""
        found = problem.diagnostic
        related = None
        if problem.elsewhere and found.source.folder and found.span:
            place = self.location(uri, found.source, found.span)
            related = [types.DiagnosticRelatedInformation(place, found.message)]
        severity = (
            types.DiagnosticSeverity.Warning
            if found.severity == "warning"
            else types.DiagnosticSeverity.Error
        )
        return types.Diagnostic(
            self.range(document.source, problem.span),
            problem.text,
            severity,
            found.code,
            source="bslang",
            related_information=related,
        )

    def around(self, uri: str) -> Iterator[Document]:
        """Documents that may import one: those that are open, and those of its folder and above it."""
        for other in self.opened():
            if other != uri:
                yield self.document(other)
        folder = self.document(uri).source.folder
        root = self.workspace.root_path
        left = MAX_FILES
        while folder is not None:
            for path in specs_in(folder)[:left]:
                left -= 1
                if uris.from_fs_path(str(path)) not in self.workspace.text_documents:
                    try:
                        yield Document(source_of(path))
                    except SpecError:
                        continue
            inside = root is not None and Path(root).resolve() in folder.parents
            folder = folder.parent if inside else None


_AtPosition = (
    types.HoverParams
    | types.CompletionParams
    | types.DefinitionParams
    | types.ReferenceParams
    | types.RenameParams
    | types.PrepareRenameParams
    | types.SignatureHelpParams
)

server = Server()


class _NoRefusals(logging.Filter):
    """Leaves out of the log what a client was refused: it is told, and nothing went wrong here."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        refused = isinstance(error, JsonRpcException) and error.code == _REFUSED
        return not refused


_REFUSED = types.LSPErrorCodes.RequestFailed.value
logging.getLogger("pygls.protocol.json_rpc").addFilter(_NoRefusals())


def _path(uri: str) -> Path | None:
    """The path of a document that is, or will be, a file."""
    path = uris.to_fs_path(uri) if uri.startswith("file:") else None
    return Path(path) if path else None


# ---- documents -----------------------------------------------------------------------------------


@server.feature(types.SHUTDOWN)
def _shutdown(ls: Server, _: None) -> None:
    ls.asked_to_stop = True


@server.feature(types.TEXT_DOCUMENT_DID_OPEN)
def _opened(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
    ls.forget(params.text_document.uri)
    ls.publish(params.text_document.uri)


@server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
async def _changed(ls: Server, params: types.DidChangeTextDocumentParams) -> None:
    uri = params.text_document.uri
    ls.forget(uri)
    now = ls.document(uri)
    await asyncio.sleep(PAUSE)
    if uri in ls.opened() and ls.document(uri) is now:  # nothing was typed meanwhile
        ls.publish(uri)


@server.feature(types.TEXT_DOCUMENT_DID_SAVE)
def _saved(ls: Server, _: types.DidSaveTextDocumentParams) -> None:
    ls.forget()  # others may import it
    for uri in ls.opened():
        ls.publish(uri)


@server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
def _closed(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
    uri = params.text_document.uri
    ls.forget(uri)
    ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))


# ---- requests ------------------------------------------------------------------------------------


@server.feature(types.TEXT_DOCUMENT_HOVER)
def _hover(ls: Server, params: types.HoverParams) -> types.Hover | None:
    document, offset = ls.offset(params)
    found = hover(document, offset)
    if found is None:
        return None
    text = types.MarkupContent(types.MarkupKind.Markdown, found.text)
    return types.Hover(text, ls.range(document.source, found.span))


@server.feature(
    types.TEXT_DOCUMENT_COMPLETION,
    types.CompletionOptions(trigger_characters=[".", "(", ",", '"', "/"]),
)
def _complete(ls: Server, params: types.CompletionParams) -> list[types.CompletionItem]:
    document, offset = ls.offset(params)
    return [
        types.CompletionItem(
            item.label,
            kind=_ITEM_KINDS[item.kind],
            detail=item.detail or None,
            documentation=types.MarkupContent(types.MarkupKind.Markdown, item.documentation),
            sort_text=f"{place:04}",  # what is nearest comes first
            text_edit=types.TextEdit(
                ls.range(document.source, Span(item.start, offset)), item.label
            ),
        )
        for place, item in enumerate(complete.completions(document, offset))
    ]


@server.feature(
    types.TEXT_DOCUMENT_SIGNATURE_HELP, types.SignatureHelpOptions(trigger_characters=["(", ","])
)
def _signature(ls: Server, params: types.SignatureHelpParams) -> types.SignatureHelp | None:
    found = complete.form(*ls.offset(params))
    if found is None:
        return None
    parts = [types.ParameterInformation(part, said or None) for part, said in found.parts]
    return types.SignatureHelp(
        [types.SignatureInformation(found.label, parameters=parts)], 0, found.active
    )


@server.feature(types.TEXT_DOCUMENT_DEFINITION)
def _definition(ls: Server, params: types.DefinitionParams) -> types.Location | None:
    document, offset = ls.offset(params)
    found = document.at(offset)
    if found is None or found.symbol.source is None or found.symbol.span is None:
        return None
    return ls.location(params.text_document.uri, found.symbol.source, found.symbol.span)


@server.feature(types.TEXT_DOCUMENT_REFERENCES)
def _references(ls: Server, params: types.ReferenceParams) -> list[types.Location]:
    document, offset = ls.offset(params)
    found = document.at(offset)
    if found is None:
        return []
    declared = found.symbol.span if found.symbol.place == place_of(document.source) else None
    return [
        ls.location(params.text_document.uri, document.source, use.span)
        for use in document.uses(found.symbol)
        if params.context.include_declaration or use.span != declared
    ]


@server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
def _prepare_rename(
    ls: Server, params: types.PrepareRenameParams
) -> types.PrepareRenamePlaceholder:
    document, offset = ls.offset(params)
    try:
        found = rename.renameable(document, offset)
    except rename.Refused as refused:
        raise _failed(refused) from None
    return types.PrepareRenamePlaceholder(ls.range(document.source, found.span), found.symbol.name)


@server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
def _rename(ls: Server, params: types.RenameParams) -> types.WorkspaceEdit:
    document, offset = ls.offset(params)
    uri = params.text_document.uri
    try:
        spans = rename.renamed(document, offset, params.new_name, ls.around(uri))
    except rename.Refused as refused:
        raise _failed(refused) from None
    edits = [types.TextEdit(ls.range(document.source, span), params.new_name) for span in spans]
    return types.WorkspaceEdit(changes={uri: edits})


@server.feature(types.TEXT_DOCUMENT_FORMATTING)
def _format(ls: Server, params: types.DocumentFormattingParams) -> list[types.TextEdit]:
    source = ls.document(params.text_document.uri).source
    try:
        text = formatted(source)
    except SpecError as error:
        first = error.diagnostics[0]
        where = f" in line {source.position(first.span.start)[0]}" if first.span else ""
        raise _failed(f"not formatted: fix the error{where} first: {first.message}") from None
    if text == source.text:
        return []
    return [types.TextEdit(ls.range(source, Span(0, len(source.text))), text)]


@server.feature(
    types.TEXT_DOCUMENT_CODE_ACTION,
    types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix]),
)
def _fixes(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction]:
    uri, wanted = params.text_document.uri, params.context.only
    if wanted is not None and not {"", types.CodeActionKind.QuickFix} & {*wanted}:
        return []
    document = ls.document(uri)
    start, stop = (
        ls.positions(document.source).offset(place.line, place.character)
        for place in (params.range.start, params.range.end)
    )
    return [
        types.CodeAction(
            fix.title,
            types.CodeActionKind.QuickFix,
            [ls.diagnostic(uri, document, problem)],
            is_preferred=True,
            edit=types.WorkspaceEdit(
                changes={
                    uri: [
                        types.TextEdit(ls.range(document.source, edit.span), edit.text)
                        for edit in fix.edits
                    ]
                }
            ),
        )
        for problem, fix in fixes(document, start, stop)
    ]


@server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
def _symbols(ls: Server, params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
    document = ls.document(params.text_document.uri)
    return [
        types.DocumentSymbol(
            entry.name,
            _SYMBOL_KINDS[entry.kind],
            ls.range(document.source, entry.span),
            ls.range(document.source, entry.name_span),
            detail=entry.detail or None,
        )
        for entry in outline.outline(document)
    ]


def _failed(why: object) -> JsonRpcException:
    """What a client shows of a request that is refused: one line, no traceback."""
    return JsonRpcException(str(why), _REFUSED)
