"""What is asked of a config's fields together, and which shapes of images can be trained."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

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

    levels = range(1, max(shape).bit_length() + 1)
    near = {pair for k in levels for pair in itertools.product(*(sides(n, k) for n in shape))}
    return sorted(near, key=lambda other: (distance(other), other))[:2]


def shape_of(f: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the training images, px, by the fields that give them."""
    return f["resolution"], f["width"] or f["resolution"]


def channel_widths(base: int, maximum: int, last: int) -> tuple[int, ...]:
    """C_b = min(base / b, maximum) for b = 4, 8, ..., last."""
    return tuple(min(base // 2**k, maximum) for k in range(2, int(math.log2(last)) + 1))


def shape_fields(shape: tuple[int, int]) -> str:
    """A height and width as the fields that give them."""
    height, width = shape
    return f"resolution={height}" + (f" and width={width}" if width != height else "")


def check(f: Mapping[str, Any]) -> None:
    """Checks what ties fields that are right each for itself; they have dotted names.

    Raises:
      ValueError: shows fields that do not go together, and says what would.
    """
    for part in (_check_images, _check_batch, _check_augment, _check_layout, _check_networks):
        part(f)


def _require(condition: bool, f: Mapping[str, Any], names: str, rule: str) -> None:
    """Raises ValueError unless the condition holds, with the values of these fields, and a rule."""
    if not condition:
        shown = " and ".join(f"{name}={f[name]!r}" for name in names.split())
        raise ValueError(f"{shown} {rule}")


def _check_images(f: Mapping[str, Any]) -> None:
    rule = "conditions on nothing; use 0 for an unconditional network"
    _require(f["num_classes"] != 1, f, "num_classes", rule)
    shape = shape_of(f)
    if not is_trainable(shape):
        near = " or ".join(f"{height} x {width}" for height, width in trainable_near(shape))
        raise ValueError(
            f"{shape_fields(shape)} must be h * 2^k px high and w * 2^k px wide with h and w from "
            f"{SMALLEST} to {LARGEST} and k at least 1; near by are {near} (height x width)"
        )


def _check_batch(f: Mapping[str, Any]) -> None:
    """It is dealt out in groups, and in microbatches of whole ones."""
    batch, parts = f["batch_size"], f["layout.microbatches"]
    group = min(f["discriminator.mbstd_group_size"], batch)
    shrink = f["recipe.path_length_batch_shrink"]
    for name, divisor in (
        ("discriminator.mbstd_group_size", group),
        ("recipe.path_length_batch_shrink", shrink),
    ):
        rule = f"must be a multiple of {name}={f[name]}"
        _require(batch % divisor == 0, f, "batch_size", rule)
    images, groups = batch // shrink, batch // group
    _require(
        images % parts == 0 and groups % parts == 0,
        f,
        "layout.microbatches",
        f"must divide batch_size={batch} / recipe.path_length_batch_shrink={shrink} and the "
        f"{groups} groups of {group} images that the discriminator sees",
    )


def _check_augment(f: Mapping[str, Any]) -> None:
    rule = "augment nothing: give augment.p, or augment.kind='none'"
    is_something = f["augment.kind"] != "fixed" or f["augment.p"] > 0
    _require(is_something, f, "augment.kind augment.p", rule)


def _check_layout(f: Mapping[str, Any]) -> None:
    (height, width), size = shape_of(f), shape_fields(shape_of(f))
    rows, columns, strips = (f[f"layout.{name}"] for name in ("row", "column", "pixel_strips"))
    for name, pieces, side in (
        ("row", rows, height),
        ("column", columns, width),
        ("pixel_strips", rows * (strips or 1), height),
    ):
        rule = f"gives {pieces} parts, which must divide the {side} px of {size}"
        _require(side % pieces == 0, f, f"layout.{name}", rule)


def _check_networks(f: Mapping[str, Any]) -> None:
    k, size = halvings(shape_of(f)), shape_fields(shape_of(f))
    layers, last = 1 + 3 * k, 4 << k
    rule = f"must be at most {layers} at {size}: from-RGB, and three layers of each block"
    _require(f["recipe.freeze_d"] <= layers, f, "recipe.freeze_d", rule)
    rule = f"must be at least {2 * last}: 2 channels at block {last}, the last of {size}"
    for network in ("generator", "discriminator"):
        name = f"{network}.channel_base"
        _require(f[name] >= 2 * last, f, name, rule)
    names = "generator.channel_base generator.channel_max"
    (first,) = channel_widths(*(f[name] for name in names.split()), 4)
    rule = f"give {first} channels at block 4; the Fourier encoding needs an even number of them"
    _require(first % 2 == 0, f, names, rule)
