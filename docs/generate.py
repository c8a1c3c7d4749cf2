"""Write the pages that are made from the code: primitives, operators, library, gallery and errors (.md).

    python docs/generate.py

Their pictures, and those of README.md, go to docs/images. It writes the structs in the header of the C++ as
well. A test fails where one of these is not what this writes.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bslang import abi, compiler
from bslang.cli.check import diagnostics
from bslang.graph.blockgraph import FULL
from bslang.ir.pattern import Primitive
from bslang.ir.signature import arguments
from bslang.ir.text import value_text
from bslang.patterns import PRIMITIVES
from bslang.picture.svg import svg
from bslang.resolve.calls import signature
from bslang.resolve.library import library as library_entries
from bslang.resolve.program import Resolved
from bslang.resolve.sources import source_of
from bslang.syntax.codes import CODES
from bslang.syntax.source import Source

HERE = Path(__file__).resolve().parent
BLOCKS = 12

Images = dict[str, str]
"""The pictures of a page: SVG by path below docs/."""

PICTURES = (
    f"Pictures show {BLOCKS} blocks of 64 tokens: a row for each block of queries, a column for each "
    "block of keys, in the colour of the term that brings the block in, and paler where only some of its "
    "pairs belong."
)


def primitives(images: Images) -> str:
    """Each primitive with its documentation, arguments, and a picture of its example."""
    parts = ["# Primitives", f"Made from the code by docs/generate.py. {PICTURES}"]
    with TemporaryDirectory() as folder:
        # What the example of `table` reads: the lower triangle of every other diagonal.
        i, j = np.indices((BLOCKS, BLOCKS))
        np.save(Path(folder) / "mask.npy", (j <= i) & ((i - j) % 2 == 0))
        parts += [_primitive(primitive, Path(folder), images) for primitive in PRIMITIVES]
    return "\n\n".join(parts) + "\n"


def _primitive(primitive: type[Primitive], folder: Path, images: Images) -> str:
    text = inspect.getdoc(primitive) or ""
    body, _, example = text.rpartition("Example: `")
    example = example.rstrip("`")
    parts = [
        f"## {primitive.name}",
        f"`{signature(primitive)}`",
        re.sub(r"(?<!\n)\n(?!\n)", " ", body.strip()),
    ]
    rows = [
        f"| `{arg.name}` | {arg.help} | {'required' if arg.required else _default(arg.default)} |"
        for arg in arguments(primitive)
    ]
    if rows:
        parts.append("\n".join(["| argument | | default |", "|---|---|---|", *rows]))
    resolved = compiler.resolve(Source("<example>", example, folder))
    parts.append(f"```bsl\n{example}\n```")
    parts.append(_picture(resolved, f"primitives/{primitive.name}", images))
    return "\n\n".join(parts)


def _picture(
    resolved: Resolved,
    path: str,
    images: Images,
    side: int = BLOCKS,
    *,
    head: int = 0,
    layer: int = 0,
    scale: float = 1,
    legend: bool = True,
) -> str:
    """Draws a layout, and says in Markdown where the picture is and what is on it."""
    length = side * resolved.block[0]
    graph = compiler.lower(resolved, length, length, head=head, layer=layer)
    assert f"images/{path}.svg" not in images, f"two pictures would be {path}.svg"
    images[f"images/{path}.svg"] = svg(
        resolved.pattern, [graph], cells=side, scale=scale, legend=legend
    )
    blocks, full = graph.visited.size, graph.of_kind(FULL).size
    said = f"{blocks} of {side**2} blocks, {full} full and {blocks - full} partial"
    return f"![{path.rpartition('/')[2]}: {said}](images/{path}.svg)"


def _default(default: object) -> str:
    return "" if default is None else f"`{value_text(default)}`"


OPERATORS = {
    "Union": ("What is in either pattern.", "window(3) | cols(0)"),
    "Symmetric difference": ("What is in one pattern and not in the other.", "window(5) ^ last(4)"),
    "Intersection": ("What is in both patterns.", "every(3) & last(inf)"),
    "Difference": ("What is in the first pattern and not in the second.", "last(inf) - window(3)"),
    "Composition": (
        "Block i reaches block j through one in between: i sees it in the first pattern, and it sees j in "
        "the second. Parts count in blocks. Its cost is that of its runs: wide rows are joined in advance.",
        "diagonals(-3, 3) @ window(3)",
    ),
    "Complement": ("What is not in the pattern.", "~window(7)"),
    "Power": ("Composition with itself: what is reached in k hops.", "diagonals(-2, 0, 2) ** 2"),
    "Transpose": ("Keys become queries.", "(last(inf) & cols(0, 4)).T"),
    "Set-builder over blocks": (
        "Pairs of blocks for which a predicate holds.",
        "{i, j : j <= i & (i - j) % 3 < 2}",
    ),
    "Set-builder over tokens": (
        "Pairs of tokens for which a predicate holds, to the token.",
        "{q, k : 0 <= q - k < 150}",
    ),
    "Heads": (
        "Another pattern for each range of heads; this is head 0, and the picture of head 4 is that of "
        "`cols(0) | last(1)`.",
        "heads { 0:4 -> window(3); 4: -> cols(0) | last(1) }",
    ),
    "Parentheses": ("They group, and carry an expression over lines.", "(all -\n    window(5))"),
}
"""What joins or makes patterns and is no primitive: what it means, and an example."""


def operators(images: Images) -> str:
    """Each operator and form of the language with a picture."""
    parts = [
        "# Operators and forms",
        "Made from the code by docs/generate.py. Loosest first; [language.md](language.md) has the table. "
        f"{PICTURES}",
    ]
    for title, (meaning, example) in OPERATORS.items():
        resolved = compiler.resolve(Source("<example>", example))
        drawn = _picture(resolved, f"operators/{title.lower().replace(' ', '-')}", images)
        parts.append(f"## {title}\n\n{meaning}\n\n```bsl\n{example}\n```\n\n{drawn}")
    return "\n\n".join(parts) + "\n"


DRAWN = {
    "alphafold3:af3_atoms": "nq=64t nk=256t",
    "alphafold3:af3_atoms_clamped": "nq=64t nk=256t",
    "axial:axial": "h=3 w=4",
    "axial:axial_heads": "h=3 w=4",
    "block_causal:asr_chunks": "c=128t left=2",
    "block_causal:block_causal": "c=192t",
    "block_causal:block_causal_i2v": "f=64t c=192t",
    "block_causal:pi0": "p=448t s=64t h=256t",
    "block_diffusion:block_diffusion": "b=128t",
    "deepseek:hca": "each=2t",
    "deepseek:nsa_compression": "l=8t d=2t",
    "duo:duo": "full=1 sinks=64t recent=192t head=1",
    "etc:etc": "g=2 w=3",
    "gna:gna1d": "w=5 s=3",
    "gna:gna1d_causal": "w=5 s=3",
    "gna:gna2d": "h=3 w=4 kh=3 kw=3 sh=1 sw=2",
    "hymba:hymba": "meta=64t w=192t",
    "in_context:icl": "p=512t",
    "in_context:icl_self": "p=512t",
    "interleaved:interleaved": "w=192t",
    "interleaved:gemma3": "w=192t",
    "interleaved:interleaved_first": "w=192t layer=1",
    "interleaved:interleaved_encoder": "layer=1",
    "interleaved:modernbert": "layer=1",
    "llama4:llama4": "c=4",
    "longformer:longformer": "w=3 g=1",
    "longformer:dilated": "w=5 gap=2",
    "longlora:longlora": "half=1 g=256t head=1",
    "longlora:longlora_roll": "half=1 g=256t head=1",
    "longnet:longnet_dilated": "w=6 r=2",
    "longnet:longnet": "w1=4 r1=1 w2=12 r2=3",
    "longnet:longnet_mixture": "w=1",
    "minference:a_shape": "sinks=1 recent=3",
    "minference:tri_shape": "sinks=1 recent=2 tail=2",
    "mistral:mistral": "w=3",
    "natten:natten": "k=3",
    "natten:natten_dilated": "k=3 gap=2",
    "natten:natten2d": "h=3 w=4 k=3",
    "natten:natten3d": "t=3 h=2 w=2 k=3",
    "phi3:phi3": "local=4 vert=3 count=1",
    "prefix_lm:prefix_lm": "p=3",
    "radial:radial_wan": "f=64t b=8t",
    "radial:radial_hunyuan": "f=64t b=8t t=64t",
    "self_forcing:self_forcing": "c=128t local=256t",
    "self_forcing:self_forcing_sink": "c=128t local=320t s=64t",
    "self_forcing:teacher_forcing": "c=2",
    "sliding_tile:sliding_tile": "t=3 h=2 w=2",
    "sparse_transformer:fixed": "s=256t c=64t",
    "sparse_transformer:local_head": "e=1",
    "sparse_transformer:strided_head": "s=4",
    "sparse_transformer:strided_pattern": "s=4",
    "star:star": "c=192t a=128t u=64t",
    "streaming_llm:streaming_llm": "sinks=1 recent=3",
    "svg:svg_spatial": "p=64t f=128t width=2 r=64t",
    "svg:svg_temporal": "p=64t f=128t F=6",
    "svg:svg_temporal_band": "p=64t f=128t F=6 w=96t",
    "swin:swin": "w=32t side=8t shift=4t",
    "time_series:time_attention": "T=192t",
    "time_series:time_covariate": "T=192t",
    "trianglemix:trianglemix": "start=0 sinks=64t recent=192t tail=64t",
    "vggt:vggt": "f=192t",
}
"""Parameters, head and layer at which a published layout is drawn, where those of its paper show little."""

FIELDS = {
    "Text encoders": (
        "bigbird:bigbird longformer:longformer longformer:dilated etc:etc interleaved:modernbert "
        "blockbert:blockbert pixelfly:pixelfly deepspeed:fixed"
    ),
    "Language models": (
        "mistral:mistral interleaved:gemma3 interleaved:gpt_oss llama4:llama4 phi3:phi3 hymba:hymba "
        "longlora:longlora sparse_transformer:fixed sparse_transformer:strided_head moa:moa power:power "
        "deepseek:nsa_compression deepseek:hca block_diffusion:block_diffusion prefix_lm:prefix_lm"
    ),
    "Images and video": (
        "axial:axial natten:natten2d swin:swin gna:gna2d sliding_tile:sliding_tile radial:radial_wan "
        "svg:svg_spatial svg:svg_temporal block_causal:block_causal self_forcing:self_forcing_sink "
        "self_forcing:teacher_forcing vggt:vggt block_causal:pi0"
    ),
    "Genomes, molecules and long documents": (
        "longnet:longnet longnet:longnet_mixture bigbird:bigbird_etc hepos:hepos natten:natten_dilated "
        "alphafold3:af3_atoms"
    ),
    "Time series, speech and tables": (
        "logsparse:log_sparse logsparse:log_sparse_local time_series:time_attention "
        "time_series:time_covariate block_causal:asr_chunks in_context:icl"
    ),
    "Serving": (
        "streaming_llm:streaming_llm minference:a_shape minference:tri_shape minference:vertical_slash "
        "star:star trianglemix:trianglemix duo:duo"
    ),
}
"""What gallery.md shows, by the field that it is for."""

ACROSS = 4  # thumbnails in a row


def library(images: Images) -> str:
    """Each file of the library, paragraph by paragraph, with a picture of what is defined there."""
    parts = [
        "# Published layouts",
        "Made from the library by docs/generate.py. Definitions are used as they stand, "
        "`bslang show std/bigbird.bsl:bigbird -D r=2`, or in a spec:",
        '```bsl\nimport "std/bigbird.bsl" as std\n\nmine = std.bigbird(r=2) & causal\n```',
        "Parameters have the sizes of the paper or of its code as defaults: numbers with `t` count tokens, "
        "numbers without count blocks, unless the comment says otherwise. [gallery.md](gallery.md) shows "
        "the layouts by field.",
        f"{PICTURES} Where the sizes of the paper are too large for 12 blocks, the line below a picture "
        "says the smaller ones that it is drawn with. Otherwise head 0 and layer 0 are drawn.",
    ]
    entries = library_entries()
    for file in dict.fromkeys(entry.file for entry in entries):
        source = source_of(Path(file))
        defined = {entry.text: entry.name for entry in entries if entry.file == file}
        parts.append(f"## {file}")
        for paragraph in source.text.strip().split("\n\n"):
            names = [name for text, name in defined.items() if paragraph.endswith(text)]
            parts.append(f"```bsl\n{paragraph}\n```")
            parts += [_published(source, name, images) for name in names]
    return "\n\n".join(parts) + "\n"


def _published(source: Source, name: str, images: Images) -> str:
    key = f"{Path(source.name).stem}:{name}"
    resolved, at = _drawn(key)
    if any(part.labelled for part in resolved.pattern.primitives()):
        return "Which blocks these are is known at the call."
    picture = _picture(resolved, f"library/{key.replace(':', '-')}", images, scale=0.5, **at)
    return f"{picture}\n\nDrawn with {_listed(DRAWN[key])}." if key in DRAWN else picture


def _drawn(key: str) -> tuple[Resolved, dict[str, int]]:
    """A published layout with the parameters of its picture, and the head and layer."""
    stem, _, name = key.partition(":")
    values = dict(option.split("=") for option in DRAWN.get(key, "").split())
    at = {word: int(values.pop(word)) for word in ("head", "layer") if word in values}
    return compiler.resolve(source_of(Path(f"std/{stem}.bsl")), name, parameters=values), at


def _listed(options: str) -> str:
    return ", ".join(f"`{option}`" for option in options.split())


def gallery(images: Images) -> str:
    """Thumbnails of published layouts by field, each with its name."""
    parts = [
        "# Gallery",
        "Made from the library by docs/generate.py. A name leads to the layout's definition, source and "
        "parameters in [library.md](library.md); `bslang show NAME` draws it in the terminal.",
        "A picture shows 12 blocks of 64 tokens, a row for each block of queries, with parameters that fit.",
    ]
    for field, keys in FIELDS.items():
        cells = [_thumbnail(key, images) for key in keys.split()]
        rows = [cells[start : start + ACROSS] for start in range(0, len(cells), ACROSS)]
        lines = ["| " + " | ".join(row + [""] * (ACROSS - len(row))) + " |" for row in rows]
        lines.insert(1, "|" + "---|" * ACROSS)
        parts.append(f"## {field}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _thumbnail(key: str, images: Images) -> str:
    resolved, at = _drawn(key)
    path = f"gallery/{key.replace(':', '-')}"
    drawn = _picture(resolved, path, images, scale=1 / 3, legend=False, **at)
    stem, _, name = key.partition(":")
    return f"{drawn}<br>[{name}](library.md#std{stem}bsl)"


def errors(images: Images) -> str:
    """Each code as `bslang explain` shows it."""
    parts = [
        "# Errors and warnings",
        "Made from the code by docs/generate.py; `bslang explain E101` prints one of these.",
    ]
    for name, code in CODES.items():
        parts += [f"## {name}", f"{code.title}.", code.remedy]
        if code.example:
            said = next(found for found in diagnostics(code.example) if found.code == name)
            parts.append(f"```text\n{said.render()}\n```")
        if code.mended:
            parts.append(f"Right:\n\n```bsl\n{code.mended}\n```")
    return "\n\n".join(parts) + "\n"


PAGES = {
    "primitives.md": primitives,
    "operators.md": operators,
    "library.md": library,
    "gallery.md": gallery,
    "errors.md": errors,
}

FRONT = {
    "bigbird": "window(3) | global(0, -1) | random(2, seed=7)",
    "streaming": "(last(500t) | cols(0:4t)) & causal",
}
"""What README.md shows first: 24 blocks of each."""


def front() -> Images:
    """The pictures of README.md."""
    images: Images = {}
    for name, text in FRONT.items():
        _picture(compiler.resolve(Source("<example>", text)), f"readme/{name}", images, side=24)
    return images


def files(page: str) -> dict[str, str]:
    """A page and its pictures: text by path below docs/."""
    images: Images = {}
    text = PAGES[page](images)
    return {page: text, **images}


def declare() -> Path:
    """Writes the structs of `bslang.abi` to the header of the C++."""
    header = HERE.parent / "bslang" / "runtime" / "cpu" / "include" / "arguments.h"
    before, _, rest = header.read_text(encoding="utf-8").partition(abi.BEGIN)
    after = rest.partition(abi.END)[2]
    text = "".join((before, abi.BEGIN, abi.declarations(), abi.END, after))
    header.write_text(text, encoding="utf-8")
    return header


if __name__ == "__main__":
    print(declare())
    for old in HERE.glob("images/*/*.svg"):
        old.unlink()
    made = front()
    for page in PAGES:
        made |= files(page)
        print(HERE / page)
    for name, text in made.items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
