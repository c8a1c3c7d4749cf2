"""Models of transformers whose layers have no types: each is read by a function of its own."""

from __future__ import annotations

from bslang.configs.document import Definition, by_layer
from bslang.configs.model import CAUSAL, Model, Read, layer_count, sliding, to_both_sides
from bslang.configs.unread import not_read
from bslang.configs.values import ConfigError, Values, shown
from bslang.limits import MAX_BLOCK, MAX_HEADS


def bigbird(config: Values, model: Model, model_type: str) -> Read:
    block = config.number("block_size", 64, 1, MAX_BLOCK)
    count = config.number("num_random_blocks", 3)
    kind = config.choice("attention_type", "block_sparse", ("block_sparse", "original_full"))
    if kind == "original_full":
        causal = config.flag("is_decoder", False) and not model.encoder
        body = "causal" if causal else "all"
        return [Definition(model_type, body, "Full attention.")], block, []
    notes = [
        f"transformers runs sequences of up to {(5 + 2 * count) * block} tokens with full attention instead."
    ]
    definition = Definition(model_type, "_seen", "A window; the first and the last block global.")
    if count:
        heads = config.number(model.heads, model.head_count, 1, MAX_HEADS)
        drawn = f"random({count}, seed=layer * {heads} + head, within=~_seen)"
        about = f"{definition.about[:-1]}; {count} random blocks per row outside of these."
        definition = Definition(model_type, f"_seen | {drawn}", about)
        notes.append(
            "Random blocks differ by layer and head, as in transformers, but the draw is another one: there "
            "it is NumPy's. `table(...)` takes the blocks themselves. Outside of training, transformers "
            f"draws none and counts block 0 {count} more times in the softmax, which a layout cannot express."
        )
    seen = Definition("_seen", "window(3) | global(0, -1)", "What every head sees.")
    return [definition, seen], block, notes


def longformer(config: Values, model: Model, model_type: str) -> Read:
    key = "encoder_layers" if model.encoder else "num_hidden_layers"
    given = config.values.get("attention_window", 512)
    if isinstance(given, list):
        widths = config.numbers("attention_window", [], 1)
        count = layer_count(config, max(1, len(widths)), key)
        if len(widths) != count:
            raise ConfigError(
                f"`attention_window` must have a number for each of {count} layers, not {len(widths)}"
            )
    else:
        widths = [config.number("attention_window", 512, 1)] * layer_count(
            config, model.layers, key
        )
    for width in widths:
        if width % 2:
            raise ConfigError(f"`attention_window` must be even, not {width}")
    notes = [
        "The configuration does not say which tokens are global: the model is given a "
        "`global_attention_mask`. Here the first g are: g=1t is the first token, as for classification; "
        "-D g=0 (in Python, g=0) takes none. Write other places as `global(3t, 17t)`. The model has "
        "separate projections for global tokens, which a layout cannot express."
    ]
    layers = [
        Definition(
            f"window_{width}",
            f"window({width + 1}t) | global(0:g)",
            f"{width // 2} tokens to either side, and the global ones.",
            "g = 1t",
        )
        for width in widths
    ]
    return by_layer(model_type, layers), None, notes


def phi3small(config: Values, model: Model, model_type: str) -> Read:
    block = config.number("blocksparse_block_size", 64, 1, MAX_BLOCK)
    local = config.number("blocksparse_num_local_blocks", 16, 1)
    stride = config.number("blocksparse_vert_stride", 8, 1)
    dense = config.optional("dense_attention_every_n_layers", 2)
    heads = config.number("num_attention_heads", 32, 1, MAX_HEADS)
    step = max(1, stride // heads)
    shift = "" if step == 1 else f" * {step}"
    same = config.flag("blocksparse_homo_head_pattern", False)
    offset = "-1" if same else f"-1 - head{shift}"
    sparse = Definition(
        "sparse",
        f"(last({local}) | every({stride}, offset={offset})) & causal",
        f"the {local} latest blocks and every {stride}th"
        f"{' block' if same else ', another for each head'}.",
    )
    count = layer_count(config, 32)
    layers = [CAUSAL if dense and (at + 1) % dense == 0 else sparse for at in range(count)]
    if sparse not in layers:
        raise ConfigError("no sparse attention in this configuration: every layer is dense")
    return by_layer(model_type, layers), block, []


def gpt_neo(config: Values, model: Model, model_type: str) -> Read:
    """Layers that see all before them, and layers with a window, as `attention_types` lists them."""
    window = config.number("window_size", 256, 1)
    listed = config.values.get("attention_layers")
    if listed is None:
        given = config.values.get("attention_types")
        listed = _expanded([[["global", "local"], 12]] if given is None else given)
    if not isinstance(listed, list) or not all(kind in ("global", "local") for kind in listed):
        raise ConfigError(
            f'`attention_layers` must be a list of "global" and "local", not {shown(listed)}'
        )
    count = layer_count(config, max(1, len(listed)), "num_layers")
    if len(listed) != count:
        raise ConfigError(f"`attention_types` must say {count} layers, not {len(listed)}")
    if "local" not in listed:
        raise ConfigError("no sparse attention in this configuration: every layer is global")
    local = sliding(window)
    return by_layer(model_type, [local if kind == "local" else CAUSAL for kind in listed]), None, []


def _expanded(types: object) -> list[str]:
    """`attention_types`: lists of kinds, each with how many times they come."""
    kinds: list[str] = []
    for one in types if isinstance(types, list) else [None]:
        round_, times = one if isinstance(one, list) and len(one) == 2 else (None, None)
        if not isinstance(round_, list) or not isinstance(times, int) or not 0 <= times <= 1024:
            raise ConfigError(
                '`attention_types` must be as [[["global", "local"], 12]], not ' + shown(types)
            )
        kinds += round_ * times
    return kinds


def longt5(config: Values, model: Model, model_type: str) -> Read:
    """The encoder's local attention; its global tokens are means of keys, which no layout has."""
    kinds = ("local", "transient-global")
    if config.choice("encoder_attention_type", "local", kinds) != "local":
        raise not_read(
            ["encoder_attention_type"],
            "global tokens are sums of the tokens of a block, beside the keys",
        )
    definition = to_both_sides(config.number("local_radius", 127, 1))
    count = layer_count(config, 6, "num_layers")
    notes = ["Relative position biases are added to scores: they have no counterpart in a layout."]
    return by_layer(model_type, [definition] * count), None, notes


def swin(config: Values, model: Model, model_type: str) -> Read:
    """Windows that tile the image of each stage; every second layer has them shifted."""
    patch, window = config.number("patch_size", 4, 1), config.number("window_size", 7, 1)
    height, width = (side // patch for side in _sides(config, 224))
    depths = config.numbers("depths", [2, 2, 6, 2], 1)
    definitions: list[Definition] = []
    for stage, depth in enumerate(depths):
        side = min(height, width, window)
        shift = window // 2 if side == window < min(height, width) else 0
        if not side or height % side or width % side:
            raise not_read(
                ["window_size", "image_size"],
                f"{height} x {width} tokens of stage {stage} are padded to windows of {window}, and queries "
                "see the padding",
            )
        regular = _tiles(
            width, side, 0, f"windows of {side} x {side} on {height} x {width} tokens."
        )
        moved = _tiles(width, side, side - shift, f"windows shifted by {shift}.")
        layers = [
            moved if shift and at % 2 else regular for at in range(layer_count(config, depth, ""))
        ]
        found = by_layer(f"stage_{stage}", layers)
        names = {one.name: f"{one.name}_{stage}" for one in (regular, moved)}
        definitions += [_renamed(one, names) for one in found]
        height, width = height // 2, width // 2
    notes = [
        "Each stage of the model has a grid of its own, half as high and wide as the one before, and so a "
        "definition of its own. `layer` counts the layers of the stage. Relative position biases are added "
        "to scores: they have no counterpart in a layout."
    ]
    return definitions, None, notes


def _sides(config: Values, default: int) -> tuple[int, int]:
    """`image_size`: one number, or height and width."""
    if isinstance(config.values.get("image_size"), list):
        sides = config.numbers("image_size", [], 1)
        if len(sides) != 2:
            raise ConfigError(f"`image_size` must be one number or two, not {len(sides)}")
        return sides[0], sides[1]
    side = config.number("image_size", default, 1)
    return side, side


def _tiles(width: int, side: int, shift: int, about: str) -> Definition:
    """Windows on a grid so wide, of `side` tokens a side, that begin `shift` tokens early."""
    plus = f" + {shift}" if shift else ""
    rows, columns = (
        " == ".join(f"({name} {sign} {width}{plus}) // {side}" for name in "qk")
        for sign in ("//", "%")
    )
    return Definition(
        "shifted" if shift else "regular", f"{{q, k : {rows}}} & {{q, k : {columns}}}", about
    )


def _renamed(definition: Definition, names: dict[str, str]) -> Definition:
    """A definition with other names for itself and for those that it uses."""
    body = definition.body
    for name, new in names.items():
        body = body.replace(f"{name} &", f"{new} &") if definition.name not in names else body
    return Definition(names.get(definition.name, definition.name), body, definition.about)


def nat(config: Values, model: Model, model_type: str) -> Read:
    """Neighbourhood attention on an image, whose size is that of the input."""
    size = config.number("kernel_size", 7, 1)
    if not size % 2:
        raise ConfigError(f"`kernel_size` must be odd, not {size}")
    if config.values.get("dilations"):
        raise not_read(["dilations"], "neighbourhoods with gaps on a grid that has an edge")
    side = 224 // config.number("patch_size", 4, 1)
    notes = [
        "The configuration does not give the size of the input: h and w are the height and width of the "
        f"stage's tokens, by default those of the first stage for an image of 224 x 224. Where a stage "
        f"is smaller than {size}, the model pads it, which a layout cannot. Relative position biases are "
        "added to scores: they have no counterpart."
    ]
    body = f"grid(h, w, radius={size // 2}, clamp=true)"
    about = f"the nearest {size} x {size} tokens."
    return [Definition(model_type, body, about, f"h = {side}t, w = {side}t")], None, notes
