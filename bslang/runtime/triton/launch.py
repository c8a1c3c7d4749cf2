"""The triton target: launches of a generated module's kernels over the tables of a call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from bslang.call import NUMBERS, Call
from bslang.runtime.grouped import members, side_by_side
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Outputs, SomeGradients
from bslang.runtime.triton.arguments import (
    Pages,
    Places,
    apart,
    at_once,
    in_steps,
    kind,
    nowhere,
    of_absent,
    of_pages,
    of_sinks,
    readable,
    strides,
    vector_like,
)
from bslang.runtime.triton.kernels import ModuleKernels, Work, is_tf32
from bslang.runtime.triton.selected import listed
from bslang.runtime.triton.spans import room_for
from bslang.runtime.triton.tables import Visit
from bslang.runtime.triton.tiles import JOINED
from bslang.sinks import by_query


class TritonTarget(ModuleKernels):
    """The kernels of a generated module; `bslang.runtime.target.Target` for tensors on a GPU.

    Under TRITON_INTERPRET=1 they run on the CPU, for tests, and without bf16: Triton's interpreter
    multiplies its bits as integers.
    """

    name = "triton"
    by_place = True

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        into: Outputs | None = None,
    ) -> Outputs:
        """As `Target.forward`."""
        q, call = _positive(q, call)
        if into is None:
            out = torch.empty((*q.shape[:3], v.shape[3]), dtype=q.dtype, device=q.device)
            lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
            if call.lengths is not None:  # a row may have fewer keys than queries
                out, lse = out.zero_(), lse.fill_(-torch.inf)
            q, plan, call = side_by_side(q, k, plan, call)
            if q.shape[:3] != lse.shape:
                written = {"out": out.view(*q.shape[:3], v.shape[3]), "lse": lse.view(q.shape[:3])}
            else:
                written = {"out": out, "lse": lse}
        else:
            out, lse = into
            written = {"out": out, "lse": lse}
        known = {} if call.sinks is None else {"sinks": by_query(call.sinks, plan.len_q)}
        if call.k_pages is not None:
            known |= of_absent(k, v, plan.made)
        strided = {"q": readable(q), "k": readable(k), "v": readable(v)}
        self._walk("forward", strided, known, written, plan, call)
        return out, lse

    def backward(
        self,
        grad_out: torch.Tensor,
        grad_lse: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        into: SomeGradients | None = None,
    ) -> SomeGradients:
        """As `Target.backward`."""
        # Rows of the batch with lengths of their own have no gradients beyond them.
        new = torch.empty_like if call.lengths is None else torch.zeros_like
        whole = torch.contiguous_format
        dq, dk, dv = into or [new(x, memory_format=whole) for x in (q, k, v)]
        q, k, v, do = [readable(x) for x in (q, k, v, grad_out)]
        of_q, positive = _positive(q, call)
        known = self._delta(out, lse, do, grad_lse, plan, call)
        if dq is not None:
            # A scale below 0 changes the sign of what a gradient is not of.
            of_k, _ = _positive(k, call)
            strided = {"q": q, "k": of_k, "v": v, "do": do}
            self._walk("dq", strided, known, {"dq": dq}, plan, positive)
        if dk is not None and dv is not None:
            strided = {"q": of_q, "k": k, "v": v, "do": do}
            self._walk("dkdv", strided, known, {"dk": dk, "dv": dv}, plan, positive)
        return dq, dk, dv

    def _delta(
        self,
        out: torch.Tensor,
        lse: torch.Tensor,
        do: torch.Tensor,
        grad_lse: torch.Tensor,
        plan: DevicePlan,
        call: Call,
    ) -> dict[str, torch.Tensor]:
        """What both passes over blocks read for each query."""
        in_one = call.q_pages is None
        if in_one:
            out, lse, grad_lse = out.contiguous(), lse.contiguous(), grad_lse.contiguous()
            known = {"delta": torch.empty_like(lse), "lse2": torch.empty_like(lse)}
        else:  # one set of strides for all vectors
            known = {"delta": vector_like(lse), "lse2": vector_like(lse)}
            out, lse, grad_lse = (
                readable(out),
                *(vector_like(lse).copy_(x) for x in (lse, grad_lse)),
            )
        tensors = {"out": out, "do": do, "lse": lse, "grad_lse": grad_lse, **known}
        batch, heads, length = call.batch(do), lse.shape[1], plan.len_q if in_one else plan.block_q
        paged = of_pages("q_pages", call.q_pages)

        def work() -> Work:
            chosen = self._launch("delta", do, out, Pages(0 if in_one else length))
            chosen, step = in_steps(chosen, [do])
            values = {**strides(tensors), **strides({"do": do}, step), **paged, "heads": heads}
            return chosen, -(-length // chosen.constants["TILE_Q"]), values

        key: Any = ("delta", batch, heads, plan.len_q, out.shape[3], do.dtype, do.stride())
        if not in_one:
            key = (*key, *map(kind, tensors.values()), kind(paged["q_pages"]))
            tensors |= {"q_pages": paged["q_pages"]}
        programs = batch * heads * -(-plan.len_q // length)
        self._run("delta", key, plan, tensors, {"len_q": plan.len_q}, programs, work)
        return known

    def _walk(
        self,
        kernel: str,
        strided: dict[str, torch.Tensor],
        read: dict[str, torch.Tensor],
        written: dict[str, torch.Tensor],
        plan: DevicePlan,
        call: Call,
    ) -> None:
        """Launch a kernel over the block rows of every head, or for dK and dV the block columns.

        strided: q, k, v and what else has strides of its own, `readable`; read, written: tensors that are
        contiguous where their side has no pages.
        """
        q, k, v = strided["q"], strided["k"], strided["v"]
        batch, heads, key_heads = call.batch(q), q.shape[1], k.shape[1]
        pages = Pages.of(call, q, k)
        assert pages.q in (0, plan.block_q) and (kernel != "dkdv" or pages.k in (0, plan.block_k))
        if kernel == "dkdv":
            visit = Visit.of_columns(plan, call, self.columns)
            lanes, block = batch * key_heads, plan.block_k
        else:
            visit = Visit.of_rows(plan, call, self.rows, split=kernel == "forward")
            lanes, block = batch * heads, plan.block_q
        parts, paged = {}, of_pages("q_pages", call.q_pages) | of_pages("k_pages", call.k_pages)
        if visit.slots:  # parts of blocks that several programs share, in fp32
            rows = visit.slots * lanes * visit.rows
            widths = {f"part_{name}": x.shape[3:].numel() for name, x in written.items()}
            parts = apart({name: rows * width for name, width in widths.items()}, q.device)
        tensors = {**strided, **read, **parts, **written}
        if (labels := plan.labels(call)) is not None:
            tensors |= zip(("q_labels", "k_labels", "q_ranges", "k_ranges"), labels, strict=True)
        if call.selected:
            tensors |= listed(call.selected, plan)
        if paged:
            tensors |= {name: x for name, x in paged.items() if name.endswith("pages")}
        shared = members(call, plan, heads, key_heads)
        q_first, q_step = plan.steps
        sizes = {"len_k": plan.len_k, "q_start": plan.q_start, "q_first": q_first, "q_step": q_step}
        if plan.in_order:
            sizes["heads_at_once"] = at_once(kernel, strided, plan, lanes)
            sizes["parts"] = visit.places["parts"]
            tensors |= {} if call.lengths is None else {"lengths": visit.places["lengths"]}

        def work() -> Work:
            step, chosen = 1, self._on_hopper(kernel, strided, plan, call, shared)
            if chosen is None:
                chosen = self._launch(kernel, q, v, pages, Places.of(plan, call), shared)
                chosen = replace(chosen, constants=chosen.constants | call.constants)
                chosen, step = in_steps(chosen, strided.values())
            tiles = -(-block // chosen.constants["TILE_K" if kernel == "dkdv" else "TILE_Q"])
            values = {
                **dict.fromkeys([f"part_{name}" for name in written], nowhere(plan)),
                "sinks": nowhere(plan),
                "sinks_head": 0,
                "sinks_row": 0,
                **strides(tensors),
                **strides(strided, step),
                **of_sinks(read),
                **paged,
                "programs": visit.table.programs,
                "pointer": visit.table.pointer,
                "runs": visit.table.runs,
                **visit.places,
                "heads_at_once": at_once(kernel, strided, plan, lanes),
                "parameters": plan.parameters,
                "head_graph": plan.head_graph,
                "q_order": plan.order,
                "k_order": plan.order,
                "label_heads": None if call.labels is None else call.labels.q.shape[2],
                "batch": batch,
                "heads": heads,
                "key_heads": key_heads,
                "len_q": plan.len_q,
                **{name: getattr(call, name) for name in NUMBERS},
            }
            return chosen, tiles, values

        key: Any = (
            *(kernel, plan.len_q, batch, heads, key_heads, q.shape[3], v.shape[3]),
            *(bool(visit.slots), call.lengths is not None, shared),
            *(q.dtype, q.dtype == torch.float32 and is_tf32(), call.scale, call.softcap),
            *[x.stride() for x in strided.values()],
        )
        if call.labels is not None:
            key = (*key, call.labels.q.shape[2])
        if "sinks" in read:
            key = (*key, read["sinks"].stride())
        if paged:
            key = (*key, *map(kind, tensors.values()))
        if self.settled:
            lists, spans, of_spans = room_for(visit, self.settled, batch, heads, block, plan, call)
            tensors, sizes = tensors | {"spans": spans}, sizes | of_spans
            finder = "column_spans" if kernel == "dkdv" else "row_spans"

            def find() -> Work:
                places = Places.of(plan, call)
                return self._launch(finder, q, v, places=places), 1, work()[2]

            self._run(finder, (finder, key), plan, tensors, sizes, lists, find)
        self._run(kernel, key, plan, tensors, sizes, visit.programs * lanes, work)
        if visit.slots:
            self._join(kernel, key, visit, read | parts, written, plan, call, lanes)

    def _join(
        self,
        kernel: str,
        key: Any,
        visit: Visit,
        read: dict[str, torch.Tensor],
        written: dict[str, torch.Tensor],
        plan: DevicePlan,
        call: Call,
        lanes: int,
    ) -> None:
        """Join the parts of split blocks, among what is read, to results; key: of what made them."""
        if kernel == "dkdv":
            block, start, length = plan.block_k, 0, plan.len_k
        else:
            block, start, length = plan.block_q, plan.q_start, plan.len_q
        programs = visit.joined * lanes * -(-block // JOINED)
        pages = call.k_pages if kernel == "dkdv" else call.q_pages
        page, sizes = Pages(0 if pages is None else block), {"start": start, "length": length}
        known = {"merges": visit.table.merges, "lanes": lanes, "block": block}
        if kernel == "forward":
            out, lse = written["out"], written["lse"]
            paged = of_pages("q_pages", pages)
            tensors = {name: x for name, x in read.items() if not name.endswith("absent")}
            tensors |= written | ({"q_pages": paged["q_pages"]} if paged else {})
            if plan.in_order:
                first, step = plan.steps
                parts = visit.places["parts"]
                sizes |= {"start": first, "step": step, "keys": plan.len_k, "parts": parts}
                tensors |= {} if call.lengths is None else {"lengths": visit.places["lengths"]}

            def merge() -> Work:
                values = known | {"sinks": nowhere(plan), "sinks_head": 0, "sinks_row": 0}
                values |= {**strides(written), **of_sinks(read), "heads": lse.shape[1], **paged}
                values |= visit.places
                chosen = self._launch("merge", out, out, page, Places.of(plan, call))
                return chosen, 1, values

            self._run("merge", ("merge", key), plan, tensors, sizes, programs, merge)
            return
        for name, total in written.items():
            paged = of_pages("pages", pages)

            def work(total: torch.Tensor = total, paged: dict[str, Any] = paged) -> Work:
                values = known | strides({"total": total}) | {"heads": total.shape[1], **paged}
                return self._launch("sum", total, total, page), 1, values

            tensors = {"parts": read[f"part_{name}"], "total": total}
            tensors |= {"pages": paged["pages"]} if paged else {}
            self._run("sum", ("sum", name, key), plan, tensors, sizes, programs, work)


def _positive(x: torch.Tensor, call: Call) -> tuple[torch.Tensor, Call]:
    """One of q and k, and a call with a scale above 0, that have the same products; x is multiplied by 1, -1
    or 0.

    Kernels find the maximum of a row before they scale it.
    """
    sign = (call.scale > 0) - (call.scale < 0)
    if sign == 1:
        return x, call
    return x * sign, replace(call, scale=abs(call.scale) or 1.0)
