# %% [markdown]
# # Conversations that share pages
#
# Conversations begin with the same instructions. Keys and values lie in pages of 64 tokens, in one pool; a
# table has the pages of each conversation. The instructions are computed once. Their last page, which is not
# full, is copied by each conversation that writes to it. Conversations join and leave while others are
# answered. Each gets the tokens that it gets alone, which is checked. The weights are random.
#
# Shorter: `python examples/paged_serving.py --conversations 3 --tokens 8`

# %%
from pydoc_data.topics import topics
from types import SimpleNamespace as Conversation

import numpy as np
import torch
from common import figure, save, sizes, table
from model import Transformer
from torch import Tensor, arange

import bslang
from bslang.nn import KVCache, PagePool

options = sizes(
    "Serve conversations from one pool of pages.",
    conversations=8, instructions=1500, question=60, tokens=48, dim=256, heads=4,
)  # fmt: skip
PAGE, LAYERS = 64, 2
LAYOUT = bslang.compile("(last(1024t) | cols(0:64t)) & causal", block=64)
manual = torch.tensor(list("\n".join(topics.values()).encode()))


# %%
class Layer(KVCache):
    """What a layer takes for its cache. One table serves all layers, each of which has heads in a page."""

    def __init__(self, pool: PagePool, layer: int) -> None:
        super().__init__()
        self.pool, self.heads = pool, slice(layer * options.heads, (layer + 1) * options.heads)

    def append(self, k: Tensor, v: Tensor, heads: int | None = None) -> tuple[Tensor, Tensor]:
        place = self.lengths[:, None] + arange(k.shape[2])
        page = self.pages.long().gather(1, place // PAGE)
        pools = [x[:, self.heads] for x in (self.pool.keys, self.pool.values)]
        for pool, new in zip(pools, (k, v), strict=True):
            pool[page, :, place % PAGE] = new.transpose(1, 2)
        self.lengths = self.lengths + k.shape[2]
        return tuple(pools)

    @property
    def options(self) -> dict[str, Tensor]:
        return {"pages": self.pages, "lengths": self.lengths}


class Server:
    """A model that answers from one pool; a conversation has -1 for pages that it has dropped."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.pool, self.computed = model, PagePool(PAGE), 0
        self.pool.start(*torch.empty(2, LAYERS * options.heads, 0, options.dim // options.heads))
        self.caches = [Layer(self.pool, layer) for layer in range(LAYERS)]

    def fork(self, of: Conversation, text: Tensor, n: int) -> Conversation:
        """A conversation that begins as another one, with its pages, and gets n tokens after a text."""
        self.pool.share(of.pages[of.pages >= 0])
        text = torch.cat((of.text, text))
        return Conversation(text=text, end=len(text) + n, stored=of.stored, pages=of.pages.copy())

    def make_room(self, c: Conversation) -> None:
        """Drop the pages that no later token reads, and have own ones for what is to be written."""
        full = c.stored // PAGE
        gone = np.setdiff1d(np.flatnonzero(c.pages[:full] >= 0), LAYOUT.reachable(c.stored))
        self.pool.release(c.pages[gone])
        c.pages[gone] = -1
        if c.stored % PAGE:  # others may hold the last page too
            c.pages[full] = self.pool.own(c.pages[full])
        c.pages = np.append(c.pages, self.pool.take(-(-len(c.text) // PAGE) - len(c.pages)))

    def step(self, rows: list[Conversation]) -> None:
        """Read what is new in conversations, as many tokens in each, and write the next token of each."""
        for c in rows:
            self.make_room(c)
        pages = [torch.from_numpy(c.pages).int() for c in rows]
        for cache in self.caches:
            cache.pages = torch.nn.utils.rnn.pad_sequence(pages, True, padding_value=-1)
            cache.lengths = torch.tensor([c.stored for c in rows])
        new = torch.stack([c.text[c.stored :] for c in rows])
        scores = self.model(new, self.caches)[:, -1]
        for c, token in zip(rows, scores.argmax(-1, keepdim=True), strict=True):
            c.stored, c.text = len(c.text), torch.cat((c.text, token))
        self.computed += new.numel()


def serve(model: Transformer, share: bool) -> tuple[Server, list[int]]:
    """Answer all questions, of which one comes every fourth step; pages in use at each step."""
    server, in_use, active = Server(model), [], []
    questions = list(manual[-options.question * options.conversations :].split(options.question))
    empty = Conversation(text=manual[:0], stored=0, pages=np.zeros(0, dtype=np.int64))
    begin = server.fork(empty, manual[: options.instructions], 0)
    if share:
        server.step([begin])
        begin.text = begin.text[:-1]  # nobody has asked anything yet
    while active or questions:
        if questions and len(in_use) % 4 == 0:
            active.append(server.fork(begin, questions.pop(), options.tokens + 5 * len(in_use)))
            server.step(active[-1:])  # reads the question, and what is not in the pool before it
        server.step(active)
        in_use.append(server.pool.used)
        for c in [c for c in active if len(c.text) >= c.end]:
            alone = model(c.text[None, :-1])[0, -options.tokens :].argmax(-1)
            assert c.text[-options.tokens :].equal(alone), "another conversation changed a token"
            server.pool.release(c.pages[c.pages >= 0])
        active = [c for c in active if len(c.text) < c.end]
    return server, in_use


# %%
chart, axes = figure("One pool for all conversations", "step", "pages in use (64 tokens each)")
torch.manual_seed(0)
model = Transformer(LAYOUT, 256, 256, dim=options.dim, heads=options.heads, layers=LAYERS)
rows = []
with torch.no_grad():
    for name, share in ("each its own pages", False), ("instructions shared", True):
        server, in_use = serve(model, share)
        rows.append({"conversations": name, "most pages in use": f"{max(in_use)}", "memory":
            f"{server.pool.nbytes / 2**20:.1f} MB", "tokens computed": f"{server.computed:,}"})  # fmt: skip
        axes.plot(in_use, label=name)
table(rows)
axes.legend()
save(chart, options.output, "paged_serving")
