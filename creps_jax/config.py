"""From the config of a run (nested dict or ConfigDict) to checked, frozen dataclasses.

`parse` is the one door: it knows every field, its type and its range, and what it lets through
needs no further checks. Each module takes only its own dataclass. configs/default.py holds the
same fields with their meanings.
"""

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

# What may change when a run is continued: it changes no number of the training, or, where sums
# are taken in another order, its rounding.
MAY_CHANGE = frozenset(
    {
        "total_kimg",
        "data.max_megapixels",
        "data.threads",
        "data.workers",
        "report.every_kimg",
        "report.grid_every_kimg",
        "report.tensorboard",
        "checkpoint.every_kimg",
        "checkpoint.keep",
        "layout.row",
        "layout.column",
        "layout.microbatches",
        "layout.pixel_strips",
        "guard.patience_kimg",
    }
)


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Widths and constants of the generator."""

    z_dim: int  # size of the latent z
    w_dim: int  # size of the latent w
    num_classes: int  # 0: unconditional
    image_channels: int  # 1 or 3
    channels: tuple[int, ...]  # width of the line layers of blocks 4, 8, ..., 4 * 2^k
    biline_channels: int  # B
    thickness: int  # R
    bandwidth: float  # standard deviation of the Fourier frequencies, cycles per unit
    mapping_layers: int  # depth of the mapping network
    base: tuple[int, int] = (4, 4)  # h, w of the training images, which are h 2^k x w 2^k px

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the training images, px."""
        return _doubled(self.base, len(self.channels) - 1)

    @property
    def num_ws(self) -> int:
        """Number of latents w that the layers take: 2 k + 3."""
        return 2 * len(self.channels) + 1


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Widths and constants of the discriminator."""

    num_classes: int  # 0: unconditional
    image_channels: int  # 1 or 3
    channels: tuple[int, ...]  # width of the blocks 4, 8, ..., 4 * 2^k, from the epilogue up
    mbstd_group_size: int  # images per group of the minibatch standard deviation
    mapping_layers: int  # depth of the class mapping network
    base: tuple[int, int] = (4, 4)  # h, w of the epilogue; images are h 2^k x w 2^k px

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images, px."""
        return _doubled(self.base, len(self.channels) - 1)


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """The optimisation of both networks."""

    batch_size: int  # images per step, over all devices
    learning_rate: float  # of Adam, before the correction for lazy regularisation
    adam_b2: float  # decay of Adam's second moment, before the same correction
    r1_gamma: float  # weight of the R1 penalty
    r1_interval: int  # steps between R1 phases
    path_length_weight: float
    path_length_decay: float  # step of the running mean of path lengths
    path_length_interval: int  # steps between path-length phases
    path_length_batch_shrink: int  # the path length is measured on batch_size / this latents
    w_avg_decay: float  # decay of the running mean of w
    ema_kimg: float  # half-life of the generator's moving average
    ema_rampup: float | None  # the half-life is at most this share of the images seen, if given
    freeze_d: int  # layers of the discriminator, from the image on, that do not learn


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of what the discriminator sees: each operation happens with probability p."""

    p: float  # at the beginning
    adaptive: bool  # True: p follows the discriminator (ADA); False: p stays
    target: float  # ADA: mean sign of D's logits of reals that p is steered to
    interval: int  # ADA: steps between adjustments of p
    kimg: float  # ADA: kimg in which p can rise by 1


@dataclasses.dataclass(frozen=True)
class LayoutConfig:
    """How a step is spread over devices and time; no number depends on it but by rounding."""

    row: int = 1  # devices that share an image's rows
    column: int = 1  # devices that share an image's columns
    microbatches: int = 1  # parts of the batch that are worked on one after the other
    pixel_strips: int = 1  # parts of an image that G paints one after the other


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the training images come from."""

    source: str  # 'folder:', 'zip:', 'tar:' or 'lmdb:PATH', 'tfds:NAME' or 'procedural:COUNT'
    shape: tuple[int, int]  # height and width, px, in which images are delivered
    image_channels: int  # 1 or 3
    num_classes: int  # 0: unconditional; else labels are classes 0..num_classes-1
    mirror: bool  # flip left-right with probability 1/2
    resize: bool  # True: scale (Lanczos) and crop other sizes; False: they are an error
    random_crop: bool  # crop a random window of what is larger; False: the one in the middle
    max_unreadable: float  # largest share of unreadable files that is skipped
    max_megapixels: float  # images of more pixels are unreadable
    threads: int  # decoding threads
    workers: int  # decoding processes; 0: threads only


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A whole run. Durations are whole training steps here, kimg in the config files."""

    seed: int
    init_from: str | None  # weights that a new run starts from
    precision: str  # 'float32', 'bfloat16', or 'auto': bfloat16 on accelerators
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    recipe: RecipeConfig
    augment: AugmentConfig | None  # None: no augmentation
    layout: LayoutConfig
    data: DataConfig
    total_steps: int
    report_steps: int
    grid_steps: int
    tensorboard: bool  # whether its events are written
    checkpoint_steps: int
    checkpoint_keep: int  # checkpoints kept
    patience_steps: int  # how long a sign of trouble may last


# The fields of a config file, by section ('' is the top), and their types.
SCHEMA: dict[str, dict[str, Any]] = {
    "": {
        "seed": int,
        "init_from": str | None,
        "precision": str,
        "total_kimg": float,
        "batch_size": int,
        "resolution": int,
        "width": int | None,
        "image_channels": int,
        "num_classes": int,
    },
    "data": {
        "source": str,
        "mirror": bool,
        "resize": bool,
        "random_crop": bool,
        "max_unreadable": float,
        "max_megapixels": float,
        "threads": int,
        "workers": int,
    },
    "generator": {
        "z_dim": int,
        "w_dim": int,
        "mapping_layers": int,
        "channel_base": int,
        "channel_max": int,
        "biline_channels": int,
        "thickness": int,
        "bandwidth": float,
    },
    "discriminator": {
        "channel_base": int,
        "channel_max": int,
        "mbstd_group_size": int,
        "mapping_layers": int,
    },
    "recipe": {
        "learning_rate": float,
        "adam_b2": float,
        "r1_gamma": float,
        "r1_interval": int,
        "path_length_weight": float,
        "path_length_decay": float,
        "path_length_interval": int,
        "path_length_batch_shrink": int,
        "w_avg_decay": float,
        "ema_kimg": float | None,
        "ema_rampup": float | None,
        "freeze_d": int,
    },
    "augment": {
        "kind": str,
        "p": float,
        "target": float,
        "interval": int,
        "kimg": float | None,
    },
    "layout": {"row": int, "column": int, "microbatches": int, "pixel_strips": int},
    "report": {"every_kimg": float, "grid_every_kimg": float, "tensorboard": bool},
    "checkpoint": {"every_kimg": float, "keep": int},
    "guard": {"patience_kimg": float},
}

# The fields that checkpoints of earlier versions lack, and what was done without them.
ADDED_FIELDS: dict[str, dict[str, Any]] = {
    "": {"precision": "float32", "init_from": None, "width": None},
    "recipe": {"freeze_d": 0},
    "data": {"random_crop": False, "max_megapixels": 89.478485},
    "augment": {"kind": "none", "p": 0.0, "target": 0.6, "interval": 4, "kimg": None},
    "layout": {"row": 1, "column": 1, "microbatches": 1, "pixel_strips": 1},
    "report": {"tensorboard": True},
    "guard": {"patience_kimg": 200.0},
}

PRECISIONS = ("auto", "float32", "bfloat16")
AUGMENT_KINDS = ("ada", "fixed", "none")

# Fields that may be 0 or, being a share, must lie in [0, 1]; all other numbers are positive.
MAY_BE_ZERO = {
    "seed",
    "num_classes",
    "data.workers",
    "recipe.r1_gamma",
    "recipe.path_length_weight",
    "recipe.ema_kimg",
    "recipe.ema_rampup",
    "recipe.freeze_d",
}
SHARES = {
    "augment.p",
    "augment.target",
    "data.max_unreadable",
    "recipe.adam_b2",
    "recipe.path_length_decay",
    "recipe.w_avg_decay",
}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts to one dict with dotted names."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def with_added_fields(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A config that an earlier version may have saved, with the fields that were added since."""
    sections = {
        name: {**fields, **saved.get(name, {})} for name, fields in ADDED_FIELDS.items() if name
    }
    return {**ADDED_FIELDS[""], **saved, **sections}


def field_types() -> dict[str, Any]:
    """Every field's type by its dotted name."""
    return {
        f"{section}.{name}" if section else name: kind
        for section, fields in SCHEMA.items()
        for name, kind in fields.items()
    }


def channel_widths(base: int, maximum: int, last: int) -> tuple[int, ...]:
    """C_b = min(base / b, maximum) for b = 4, 8, ..., last."""
    return tuple(min(base // 2**k, maximum) for k in range(2, int(math.log2(last)) + 1))


SMALLEST, LARGEST = 4, 16  # of the sides h and w of the discriminator's last feature maps


def halvings(shape: tuple[int, int]) -> int:
    """The largest k for which shape is h 2^k x w 2^k with whole h and w from SMALLEST up."""
    k = 0
    while all(n % 2 ** (k + 1) == 0 and n >> k + 1 >= SMALLEST for n in shape):
        k += 1
    return k


def is_trainable(shape: tuple[int, int]) -> bool:
    """Whether images of this height and width, px, can be halved, down to sides that are small."""
    k = halvings(shape)
    return k > 0 and min(shape) >= SMALLEST << k and max(shape) <= LARGEST << k


def trainable_near(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """The two shapes nearest to this one, in the ratio of their sides, that are trainable."""

    def sides(n: int, k: int) -> set[int]:
        return {min(max(h, SMALLEST), LARGEST) << k for h in (n >> k, (n >> k) + 1)}

    def distance(other: tuple[int, int]) -> float:
        return sum(math.log(a / b) ** 2 for a, b in zip(shape, other, strict=True))

    levels = range(1, max(shape).bit_length())
    near = {pair for k in levels for pair in itertools.product(*(sides(n, k) for n in shape))}
    return sorted(near, key=lambda other: (distance(other), other))[:2]


def _doubled(base: tuple[int, int], k: int) -> tuple[int, int]:
    """h 2^k, w 2^k."""
    return base[0] << k, base[1] << k


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as its field's type; whole numbers will do for floats."""
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if float in allowed and type(value) is int:
        value = float(value)
    if type(value) not in allowed and not (value is None and type(None) in allowed):
        expected = " or ".join("None" if k is type(None) else k.__name__ for k in allowed)
        raise ValueError(f"{name}={value!r} must be of type {expected}, not {type(value).__name__}")
    return value


def _checked_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the schema, typed and in its range, by dotted name."""
    kinds = field_types()
    given = flatten(config)
    missing, unknown = sorted(kinds.keys() - given.keys()), sorted(given.keys() - kinds.keys())
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has unknown fields: {', '.join(unknown)}"] if unknown else []
        raise ValueError(f"the config {' and '.join(parts)}; start from configs/default.py")
    fields = {name: _typed(name, given[name], kind) for name, kind in kinds.items()}
    for name, value in fields.items():
        if isinstance(value, bool | str | None):
            continue
        _require(abs(value) < 1e12, f"{name}={value} must be finite and below 1e12")
        if name in SHARES:
            _require(0 <= value <= 1, f"{name}={value} must lie in [0, 1]")
        elif name in MAY_BE_ZERO:
            _require(value >= 0, f"{name}={value} must not be negative")
        else:
            _require(value > 0, f"{name}={value} must be positive")
    return fields


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_together(f: dict[str, Any]) -> None:
    """What is asked of single fields beyond their range, and the conditions that tie fields."""
    _require(f["seed"] < 2**32, f"seed={f['seed']} must be below 2**32")
    _require(
        f["recipe.adam_b2"] < 1, f"recipe.adam_b2={f['recipe.adam_b2']} must be below 1 for Adam"
    )
    shape, batch = _shape(f), f["batch_size"]
    if not is_trainable(shape):
        near = " or ".join(f"{height} x {width}" for height, width in trainable_near(shape))
        raise ValueError(
            f"{shape_fields(shape)} must be h * 2^k px high and w * 2^k px wide with h and w from "
            f"{SMALLEST} to {LARGEST} and k at least 1; near by are {near} (height x width)"
        )
    _require(
        f["image_channels"] in (1, 3),
        f"image_channels={f['image_channels']} must be 1 (grey) or 3 (RGB)",
    )
    _require(
        f["num_classes"] != 1,
        "num_classes=1 conditions on nothing; use 0 for an unconditional network",
    )
    group = min(f["discriminator.mbstd_group_size"], batch)
    _require(
        batch % group == 0,
        f"batch_size={batch} must be a multiple of "
        f"discriminator.mbstd_group_size={f['discriminator.mbstd_group_size']}",
    )
    for name, choices in (("precision", PRECISIONS), ("augment.kind", AUGMENT_KINDS)):
        _require(f[name] in choices, f"{name}={f[name]!r} must be one of {', '.join(choices)}")
    _require(
        f["augment.kind"] != "fixed" or f["augment.p"] > 0,
        "augment.kind='fixed' with augment.p=0 augments nothing: give augment.p, or "
        "augment.kind='none'",
    )
    shrink = f["recipe.path_length_batch_shrink"]
    _require(
        batch % shrink == 0,
        f"batch_size={batch} must be a multiple of recipe.path_length_batch_shrink={shrink}",
    )
    parts = f["layout.microbatches"]
    _require(
        batch // shrink % parts == 0 and batch // group % parts == 0,
        f"layout.microbatches={parts} must divide batch_size={batch} / "
        f"recipe.path_length_batch_shrink={shrink} and the {batch // group} groups of {group} "
        "images that the discriminator sees",
    )
    for name in ("row", "column", "pixel_strips"):
        pieces = f[f"layout.{name}"] * (f["layout.row"] if name == "pixel_strips" else 1)
        side = shape[name == "column"]
        _require(
            side % pieces == 0,
            f"layout.{name}={f[f'layout.{name}']} gives {pieces} parts, which must divide the "
            f"{side} px of {shape_fields(shape)}",
        )
    _require(
        f["checkpoint.keep"] >= 2,
        f"checkpoint.keep={f['checkpoint.keep']} must be at least 2: "
        "the one before the newest is the fallback when the newest is damaged",
    )
    layers = 1 + 3 * halvings(shape)
    _require(
        f["recipe.freeze_d"] <= layers,
        f"recipe.freeze_d={f['recipe.freeze_d']} is more than the {layers} layers that can be "
        f"frozen at {shape_fields(shape)}: from-RGB, and three of each block",
    )
    last = 4 << halvings(shape)
    for network in ("generator", "discriminator"):
        base = f[f"{network}.channel_base"]
        _require(
            base >= 2 * last,
            f"{network}.channel_base={base} leaves fewer than 2 channels at block {last}, the last "
            f"of {shape_fields(shape)}; it must be at least {2 * last}",
        )
        maximum = f[f"{network}.channel_max"]
        _require(maximum >= 2, f"{network}.channel_max={maximum} must be at least 2")
    first = channel_widths(f["generator.channel_base"], f["generator.channel_max"], 8)[0]
    _require(
        first % 2 == 0,
        f"generator.channel_base={f['generator.channel_base']} and generator.channel_max="
        f"{f['generator.channel_max']} give {first} channels at block 4; the Fourier encoding "
        "needs an even number of them",
    )


def _shape(f: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the training images, px."""
    return f["resolution"], f["resolution"] if f["width"] is None else f["width"]


def shape_fields(shape: tuple[int, int]) -> str:
    """A height and width as the fields that give them."""
    height, width = shape
    return f"resolution={height}" + (f" and width={width}" if width != height else "")


def parse(config: Any) -> RunConfig:
    """Check a config (nested dict, or ConfigDict) and give it its types.

    Raises:
      ValueError: names the field, its value and what it must be.
    """
    f = _checked_fields(config if isinstance(config, Mapping) else config.to_dict())
    _check_together(f)

    def section(name: str, *left_out: str) -> dict[str, Any]:
        return {key: f[f"{name}.{key}"] for key in SCHEMA[name] if key not in left_out}

    def steps(name: str) -> int:
        return max(1, math.ceil(round(f[name] * 1000 / f["batch_size"], 6)))

    shared = {key: f[key] for key in ("num_classes", "image_channels")}
    shape = _shape(f)
    k = halvings(shape)
    of_network = {
        network: {
            "channels": channel_widths(
                f[f"{network}.channel_base"], f[f"{network}.channel_max"], 4 << k
            ),
            "base": (shape[0] >> k, shape[1] >> k),
        }
        for network in ("generator", "discriminator")
    }
    recipe, augment = section("recipe"), section("augment", "kind")
    is_new = f["init_from"] is None
    if augment["kimg"] is None:
        augment["kimg"] = 500.0 if is_new else 100.0
    if recipe["ema_rampup"] is None and is_new:
        recipe["ema_rampup"] = 0.05
    if recipe["ema_kimg"] is None:
        recipe["ema_kimg"] = f["batch_size"] * 10 / 32
    base_and_max = ("channel_base", "channel_max")
    return RunConfig(
        seed=f["seed"],
        init_from=f["init_from"],
        precision=f["precision"],
        generator=GeneratorConfig(
            **shared, **of_network["generator"], **section("generator", *base_and_max)
        ),
        discriminator=DiscriminatorConfig(
            **shared, **of_network["discriminator"], **section("discriminator", *base_and_max)
        ),
        recipe=RecipeConfig(batch_size=f["batch_size"], **recipe),
        augment=None
        if f["augment.kind"] == "none"
        else AugmentConfig(adaptive=f["augment.kind"] == "ada", **augment),
        layout=LayoutConfig(**section("layout")),
        data=DataConfig(shape=shape, **shared, **section("data")),
        total_steps=steps("total_kimg"),
        report_steps=steps("report.every_kimg"),
        grid_steps=steps("report.grid_every_kimg"),
        tensorboard=f["report.tensorboard"],
        checkpoint_steps=steps("checkpoint.every_kimg"),
        checkpoint_keep=f["checkpoint.keep"],
        patience_steps=steps("guard.patience_kimg"),
    )
