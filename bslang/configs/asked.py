"""What transformers itself gives the attention of each layer, of a model type that it knows.

A model of the configuration is made without memory for its weights (every element of a tensor is the
same zero) and run once on a few tokens, with attention and mask functions of ours in place of its own.
They record which mask each layer is given. A mask is a function of positions, so that masks.py can
read it at any length.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bslang.configs.masks import Interval, interval_of
from bslang.limits import MAX_LAYERS
from bslang.missing import MissingPackageError, installed, needs

_NAME = "bslang_import"
_TOKENS = 4
_LARGEST = 2**22
"""Of numbers in a configuration that a model is made from."""

_NO_WINDOW = re.compile("position|vocab|token_id|model_max_length")
"""Keys whose numbers are often large, and bound no window."""

_CHOOSES = re.compile("Indexer|LSH|ProbSparse|Landmark|SparseDense|DynamicMask|MoBA|NSA")
"""Classes that choose keys by their content."""

_RECURRENT = re.compile(
    "Mamba|Mixer$|DeltaNet|RecurrentBlock|Lightning|LinearAttention|KDA|ShortConv"
)
"""Classes of layers without masks, whose arithmetic is slow in plain torch."""

_REMOTE = ("auto_map", "quantization_config", "attn_implementation", "experts_implementation")
"""Keys that would load code or kernels, or that change no mask."""


@dataclass(frozen=True)
class Call:
    """One call of an attention function: where, of which layer, and what it may see.

    stack: the part of the model, as in "encoder"; "" where there is one. layer: its number. seen: None for a
    mask that could not be read, and `why` says the reason.
    """

    stack: str
    layer: int
    seen: Interval | None
    why: str = ""


@dataclass(frozen=True)
class Answer:
    """The calls of a model in the order of its layers.

    types: of each layer, where the model lists them. chooser: a class of the model that chooses keys by
    their content, or "".
    """

    calls: tuple[Call, ...]
    types: tuple[str, ...]
    layers: int
    chooser: str


class CannotAskError(Exception):
    """transformers is not installed, does not know the model type, or cannot run the model: the text says."""


def ask(config: Mapping[str, object], model_type: str) -> Answer:
    """The masks of a configuration's model. Raises CannotAskError."""
    large = _large(config)
    if large:
        raise CannotAskError(f"{large}: too large to make a model of")
    with _quiet():
        try:
            return _asked(config, model_type)
        except CannotAskError:
            raise
        except Exception as error:  # a model is foreign code: whatever it raises is an answer
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise CannotAskError(f"transformers cannot run a model of it ({reason})") from error


def _large(config: Mapping[str, object], path: str = "") -> str:
    """The name of a number that no model should be made with, or ""."""
    for key, value in config.items():
        if _NO_WINDOW.search(key):
            continue
        counts = re.search("layer|expert|block|depth", key) and not re.search("size|window", key)
        values = value if isinstance(value, list) else [value]
        for one in values:
            if isinstance(one, Mapping):
                inner = _large(one, f"{path}{key}.")
                if inner:
                    return inner
            elif isinstance(one, int) and abs(one) > (MAX_LAYERS if counts else _LARGEST):
                return f"`{path}{key}` ({one})"
        if isinstance(value, list) and counts and len(value) > MAX_LAYERS:
            return f"`{path}{key}` ({len(value)} entries)"
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that models give while they are made."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _asked(config: Mapping[str, object], model_type: str) -> Answer:
    try:
        with installed():
            import torch
            import transformers
            from transformers import AttentionInterface, AttentionMaskInterface, AutoModel
            from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    except ImportError as error:
        found = isinstance(error, MissingPackageError) and error.name
        raise CannotAskError(f"asking transformers {needs(found or 'transformers')}") from None

    if model_type not in CONFIG_MAPPING:
        raise CannotAskError(
            f"transformers {transformers.__version__}, which is installed, does not know the model type"
        )
    given = {key: value for key, value in config.items() if key not in _REMOTE and key[:1] != "_"}
    made = CONFIG_MAPPING[model_type].from_dict(given)
    if not getattr(made, "is_encoder_decoder", False):
        made = made.get_text_config()
    record = _Record()
    AttentionInterface.register(_NAME, record.attend)
    AttentionMaskInterface.register(_NAME, record.mask)
    with torch.device("meta"):
        model = AutoModel.from_config(
            made, attn_implementation=_NAME, experts_implementation="eager"
        ).eval()
    _without_memory(model)
    mixers = [one for one in model.modules() if _RECURRENT.search(type(one).__name__)]
    try:
        _run(model, record, mixers)
    except CannotAskError:
        raise
    except Exception:
        if not mixers:
            raise
        _run(model, record, [])
    paths = {id(module): path for path, module in model.named_modules()}
    reach = max(2 * max(_numbers(config, made), default=0), 4096)
    calls = list(record.read(paths, reach))
    return Answer(
        tuple(calls),
        tuple(getattr(made, "layer_types", None) or ()),
        int(getattr(made, "num_hidden_layers", 0) or 0),
        next(
            (type(one).__name__ for one in model.modules() if _CHOOSES.search(type(one).__name__)),
            "",
        ),
    )


def _run(model: Any, record: _Record, left_out: Sequence[Any]) -> None:
    """Run a model on a few tokens. left_out: modules that give back what they are given, at no cost."""
    import torch

    def same(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return hidden_states

    record.start()
    for module in left_out:
        module.forward = same
    try:
        with torch.no_grad(), _shapes_alone():
            model(**_inputs(model))
    finally:
        for module in left_out:
            del module.forward


def _numbers(config: Mapping[str, object], made: Any) -> Iterator[int]:
    """Whole numbers of a configuration, all that a window's size could come from."""

    def walk(value: object) -> Iterator[int]:
        if isinstance(value, bool):
            return
        if isinstance(value, int):
            yield abs(value)
        elif isinstance(value, Mapping):
            for key, one in value.items():
                if not _NO_WINDOW.search(str(key)):
                    yield from walk(one)
        elif isinstance(value, list | tuple):
            for one in value:
                yield from walk(one)

    for source in (config, made.to_dict()):
        yield from (number for number in walk(source) if number <= _LARGEST)


def _without_memory(model: Any) -> None:
    """Give every parameter and buffer of a model on the meta device zeros that take no memory."""
    import torch

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    zero = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
                    is_parameter = tensors is module._parameters
                    tensors[name] = torch.nn.Parameter(zero, False) if is_parameter else zero


def _shapes_alone() -> Any:
    """A mode of torch in which products cost nothing: of the right shape, and zero."""
    import torch
    from torch.nn import functional as F
    from torch.overrides import TorchFunctionMode
    from torch.utils._pytree import tree_map

    products = {
        *(F.linear, F.embedding, F.conv1d, F.conv2d, F.conv3d, F.scaled_dot_product_attention),
        *(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm),
        *(torch.einsum, torch.baddbmm, torch.addmm, torch.mm, torch.Tensor.mm),
    }

    class Shapes(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func not in products:
                return func(*args, **(kwargs or {}))

            def meta(value: Any) -> Any:
                return value.to("meta") if isinstance(value, torch.Tensor) else value

            out = func(*tree_map(meta, args), **tree_map(meta, kwargs or {}))
            return torch.zeros(out.shape, dtype=out.dtype)

    return Shapes()


def _inputs(model: Any) -> dict[str, Any]:
    """A few tokens, by the names that the model has for them."""
    import inspect

    import torch

    names = inspect.signature(model.forward).parameters
    given: dict[str, Any] = {"use_cache": False} if "use_cache" in names else {}
    tokens = torch.zeros(1, _TOKENS, dtype=torch.long)
    for name in ("input_ids", "decoder_input_ids"):
        if name in names:
            given[name] = tokens
    if "input_ids" not in names:
        raise CannotAskError("transformers' model of it takes no tokens")
    return given


class _Record:
    """Attention and mask functions that note who is given what."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forget what was noted."""
        self._masks: dict[int, tuple[Any, Callable[..., Any]]] = {}
        self._calls: list[tuple[int, int | None, Callable[..., Any] | None, str]] = []

    def mask(self, *args: Any, mask_function: Callable[..., Any], **kwargs: Any) -> Any:
        """transformers' interface of masks: here one that stands for the function."""
        import torch

        size = kwargs.get("batch_size", 1), 1, kwargs.get("q_length", _TOKENS), kwargs["kv_length"]
        made = torch.zeros(*map(int, size))
        self._masks[_storage(made)] = made, mask_function
        return made

    def attend(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        **kwargs: Any,
    ) -> Any:
        """transformers' interface of attention: the mask noted, and zeros."""
        found, why = self._given(module, query, key, attention_mask, kwargs)
        self._calls.append((id(module), getattr(module, "layer_idx", None), found, why))
        batch, heads, tokens = query.shape[:3]
        return query.new_zeros(batch, tokens, heads, value.shape[-1]), None

    def _given(
        self, module: Any, query: Any, key: Any, mask: Any, kwargs: Mapping[str, Any]
    ) -> tuple[Callable[..., Any] | None, str]:
        """The function of a call's mask, or why there is none."""
        if query.shape[0] != 1 or query.shape[2] != _TOKENS or key.shape[2] != _TOKENS:
            return None, "its tokens are regrouped before attention"
        if mask is None:
            if kwargs.get("sliding_window") is not None:
                return None, "its window is applied inside the kernel"
            causal = kwargs.get("is_causal")
            causal = getattr(module, "is_causal", True) if causal is None else causal
            return (lambda b, h, q, k: k <= q) if causal else (
                lambda b, h, q, k: (q >= 0) & (k >= 0)
            ), ""
        made, function = self._masks.get(_storage(mask), (None, None))
        if (
            made is None
            or made.shape[2:] != mask.shape[2:]
            or made.stride()[2:] != mask.stride()[2:]
        ):
            return None, "the model changes its mask before attention"
        return function, ""

    def read(self, paths: Mapping[int, str], reach: int) -> Iterator[Call]:
        """The calls, with masks as intervals. paths: of modules; reach: beyond every window of the model."""
        known: dict[int, Interval | None] = {}
        for module, number, function, why in self._calls:
            stack, own = _split(paths.get(module, ""))
            seen = None
            if function is not None:
                if id(function) not in known:
                    known[id(function)] = interval_of(function, reach)
                seen = known[id(function)]
                why = "" if seen else "its mask is of a kind that is not read yet"
            yield Call(stack, own if number is None else number, seen, why)


def _storage(tensor: Any) -> int:
    """What a tensor shares with its views."""
    return int(tensor.untyped_storage().data_ptr())


def _split(path: str) -> tuple[str, int]:
    """The stack that a module belongs to, and its number in it: encoder.layers.3.attn is ("encoder", 3)."""
    parts = path.split(".")
    at = next((at for at, part in enumerate(parts) if part.isdigit()), None)
    if at is None:
        return "", 0
    before = [part for part in parts[:at] if part not in _PLAIN]
    after = (
        ["cross"]
        if any("cross" in part or part == "EncDecAttention" for part in parts[at:])
        else []
    )
    return "_".join(before + after), int(parts[at])


_PLAIN = {"layers", "layer", "h", "block", "blocks", "model", "transformer", "language_model"}
