"""Official CREPS networks, as arrays under their official names, to ours.

The official layouts are [out, in] for linear and [out, in, height, width] for convolutional
weights. A tree of official names in the form of our variables says what goes where.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax.config import DiscriminatorConfig, GeneratorConfig
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.model.layers import variable_shapes

Arrays = Mapping[str, np.ndarray]

# Entries that the official program stores and never uses, or that are not weights.
UNUSED = re.compile(
    r"synthesis\.b4\.tores\..*|synthesis\.decoder_8\..*"
    r"|synthesis\.b4\.input\.coords|.*\bresample_filter"
)


def generator_from_arrays(arrays: Arrays) -> tuple[Generator, dict[str, Any]]:
    """Our generator and its variables; widths are inferred from the arrays' shapes.

    Args:
      arrays: 'synthesis.b4.fc1.weight' and so on, as the official program names them.

    Raises:
      ValueError: an entry is unknown, missing or of another shape; it is named.
    """
    generator = Generator(_generator_config(arrays))
    names = generator_names(generator.config)
    return generator, _convert(arrays, names, variable_shapes(generator))


def discriminator_from_arrays(
    arrays: Arrays, group_size: int = 4
) -> tuple[Discriminator, dict[str, Any]]:
    """Our discriminator and its variables; widths are inferred from the arrays' shapes.

    Args:
      arrays: 'b16.conv0.weight' and so on, as the official program names them.
      group_size: images per group of the minibatch standard deviation; no array tells it.

    Raises:
      ValueError: an entry is unknown, missing or of another shape; it is named.
    """
    discriminator = Discriminator(_discriminator_config(arrays, group_size))
    names = discriminator_names(discriminator.config)
    return discriminator, _convert(arrays, names, variable_shapes(discriminator))


# Trees of official names.


def _linear(name: str) -> dict[str, Any]:
    return {"weight": f"{name}.weight", "bias": f"{name}.bias"}


def _modulated(name: str) -> dict[str, Any]:
    return {**_linear(name), "affine": _linear(f"{name}.affine")}


def _mapping_layers(count: int) -> list[dict[str, Any]]:
    return [_linear(f"mapping.fc{i}") for i in range(count)]


def generator_names(config: GeneratorConfig) -> dict[str, Any]:
    """The generator's variables with official names in the place of the arrays."""
    blocks = [2 ** (i + 3) for i in range(len(config.channels) - 1)]
    mapping = {"layers": _mapping_layers(config.mapping_layers)}
    if config.num_classes:
        mapping["embed"] = _linear("mapping.embed")

    def block(name: str, out_name: str) -> dict[str, Any]:
        return {
            "layer_0": _modulated(f"{name}.fc0"),
            "layer_1": _modulated(f"{name}.fc1"),
            out_name: _modulated(f"{name}.tores"),
        }

    return {
        "params": {
            "mapping": mapping,
            "lines": {
                "encoding": {
                    "weight": "synthesis.b4.input.weight",
                    "affine": _linear("synthesis.b4.input.affine"),
                },
                "block_4": _modulated("synthesis.b4.fc1"),
                "blocks": [block(f"synthesis.b{b}", "to_biline") for b in blocks],
            },
            "pixels": {
                "decoders": [
                    [_linear(f"synthesis.decoder_{b}.{i}") for i in range(4)]
                    for b in [*blocks[1:], "last"]
                ],
                "rgb": _linear("synthesis.decoder_img"),
                "refine": [block(f"synthesis.block{i}", "to_rgb") for i in range(2)],
            },
        },
        "constants": {"lines": {"freqs": "synthesis.b4.input.freqs"}},
        "statistics": {"mapping": {"w_avg": "mapping.w_avg"}},
    }


def discriminator_names(config: DiscriminatorConfig) -> dict[str, Any]:
    """The discriminator's variables with official names in the place of the arrays."""
    blocks = [2 ** (i + 2) for i in range(len(config.channels) - 1, 0, -1)]
    # The official program knows squares only; what is flattened in another shape has another name.
    fc = "b4.fc" if config.base == (4, 4) else "b{}x{}.fc".format(*config.base)
    params = {
        "from_rgb": _linear(f"b{blocks[0]}.fromrgb"),
        "blocks": [
            {
                "conv_0": _linear(f"b{b}.conv0"),
                "conv_1": _linear(f"b{b}.conv1"),
                "skip": {"weight": f"b{b}.skip.weight"},
            }
            for b in blocks
        ],
        "conv": _linear("b4.conv"),
        "fc": _linear(fc),
        "out": _linear("b4.out"),
    }
    if config.num_classes:
        params["embed"] = _linear("mapping.embed")
        params["mapping"] = _mapping_layers(config.mapping_layers)
    return {"params": params}


# Widths from shapes.


def _shape(arrays: Arrays, name: str, ndim: int) -> tuple[int, ...]:
    """The shape of an entry that must be there and have `ndim` axes."""
    if name not in arrays:
        raise ValueError(f"entry {name} is missing")
    shape = np.shape(arrays[name])
    if len(shape) != ndim or 0 in shape:
        raise ValueError(
            f"entry {name} has shape {shape}, expected {ndim} axes, none of them empty"
        )
    return shape


def _resolutions(arrays: Arrays, prefix: str) -> list[int]:
    """4, 8, ... up to the largest block b that an entry '<prefix>b<b>.' names."""
    matches = (re.match(rf"{re.escape(prefix)}b(\d+)\.", name) for name in arrays)
    largest = max((int(m[1]) for m in matches if m and len(m[1]) < 10), default=0)
    if not 8 <= largest <= 2**14 or largest & (largest - 1):
        raise ValueError(
            f"the largest block is {largest}, expected a power of two from 8, of the entries "
            f"{prefix}b4..., {prefix}b8... and so on"
        )
    return [2**k for k in range(2, largest.bit_length())]


def _mapping_layers_named(arrays: Arrays) -> int:
    """One more than the largest i of the entries mapping.fc<i>; nobody has a hundred."""
    matches = (re.match(r"mapping\.fc(\d{1,2})\.", name) for name in arrays)
    return 1 + max((int(m[1]) for m in matches if m), default=-1)


def _num_classes(arrays: Arrays) -> int:
    if not any(name.startswith("mapping.embed.") for name in arrays):
        return 0
    return _shape(arrays, "mapping.embed.weight", 2)[1]


def _generator_config(arrays: Arrays) -> GeneratorConfig:
    blocks = _resolutions(arrays, "synthesis.")
    w_dim, fan_in = _shape(arrays, "mapping.fc0.weight", 2)
    num_classes = _num_classes(arrays)
    z_dim = fan_in - w_dim if num_classes else fan_in
    if z_dim < 1:
        raise ValueError(
            f"entry mapping.fc0.weight has shape {(w_dim, fan_in)}, which leaves nothing for z "
            "beside the embedded class"
        )
    image_channels, biline_channels = _shape(arrays, "synthesis.decoder_img.weight", 2)
    channels = tuple(_shape(arrays, f"synthesis.b{b}.fc1.weight", 2)[0] for b in blocks)
    if channels[0] % 2:
        raise ValueError(
            f"entry synthesis.b4.fc1.weight has {channels[0]} rows, expected an even number: half "
            "of the Fourier features are sines, half cosines"
        )
    return GeneratorConfig(
        z_dim=z_dim,
        w_dim=w_dim,
        num_classes=num_classes,
        image_channels=image_channels,
        channels=channels,
        biline_channels=biline_channels,
        thickness=_shape(arrays, "synthesis.b4.input.weight", 4)[3] // 2,
        bandwidth=10.0,  # Only initial values depend on it.
        mapping_layers=_mapping_layers_named(arrays),
    )


def _discriminator_config(arrays: Arrays, group_size: int) -> DiscriminatorConfig:
    blocks = _resolutions(arrays, "")
    return DiscriminatorConfig(
        num_classes=_num_classes(arrays),
        image_channels=_shape(arrays, f"b{blocks[-1]}.fromrgb.weight", 4)[1],
        channels=(
            _shape(arrays, "b4.conv.weight", 4)[0],
            *(_shape(arrays, f"b{b}.conv0.weight", 4)[0] for b in blocks[1:]),
        ),
        mbstd_group_size=group_size,
        mapping_layers=_mapping_layers_named(arrays),
        base=_base(arrays),
    )


def _base(arrays: Arrays) -> tuple[int, int]:
    """Height and width of D's last maps, by the name of what takes them."""
    matches = (re.fullmatch(r"b([4-9]|1[0-6])x([4-9]|1[0-6])\.fc\.weight", name) for name in arrays)
    return next(((int(m[1]), int(m[2])) for m in matches if m), (4, 4))


# Arrays from the official layout to ours and back.


class Layout(NamedTuple):
    """How the official program stores what has another layout with us."""

    shape: tuple[int, ...]  # the official shape
    to_ours: Callable[[np.ndarray], np.ndarray]
    to_official: Callable[[np.ndarray], np.ndarray]


def _layout(name: str, ours: tuple[int, ...]) -> Layout:
    """The layout of the official entry that has the shape `ours` with us."""

    def reshaped(*shape: int) -> Layout:
        return Layout(shape, lambda a: a.reshape(ours), lambda a: a.reshape(shape))

    if name == "synthesis.b4.input.weight":
        return reshaped(1, ours[0], 1, ours[1])
    if name == "synthesis.b4.input.freqs":
        return reshaped(1, ours[0] * ours[1])
    if re.fullmatch(r"b\w+\.fc\.weight", name):  # Flattened as C, H, W there, as H, W, C here.
        fan_in, fan_out = ours  # C = fan_out
        return Layout(
            (fan_out, fan_in),
            lambda a: a.reshape(fan_out, fan_out, -1).transpose(2, 1, 0).reshape(ours),
            lambda a: a.reshape(-1, fan_out, fan_out).transpose(2, 1, 0).reshape(fan_out, fan_in),
        )
    if len(ours) == 4:
        return Layout(
            (ours[3], ours[2], *ours[:2]),
            lambda a: a.transpose(2, 3, 1, 0),
            lambda a: a.transpose(3, 2, 0, 1),
        )
    return Layout(ours[::-1], np.transpose, np.transpose)


def _convert(arrays: Arrays, names: Any, shapes: Any) -> Any:
    """The tree of names with our arrays in the place of the names."""
    wanted = set(jax.tree.leaves(names))
    for name in arrays:
        if name not in wanted and not UNUSED.fullmatch(name):
            raise ValueError(f"unknown entry {name} of shape {np.shape(arrays[name])}")

    def leaf(name: str, ours: jax.ShapeDtypeStruct) -> jax.Array:
        if name not in arrays:
            raise ValueError(f"entry {name} is missing")
        array = numbers(name, arrays[name])
        layout = _layout(name, ours.shape)
        if array.shape != layout.shape:
            raise ValueError(f"entry {name} has shape {array.shape}, expected {layout.shape}")
        # A copy: the memory of what it is given, which JAX may take for its array, is the file's.
        return jnp.asarray(np.array(layout.to_ours(array), order="C"))

    return jax.tree.map(leaf, names, shapes)


def numbers(name: str, array: np.ndarray) -> np.ndarray:
    """The entry's array in float32.

    Raises:
      ValueError: it holds no numbers, or some that are not finite, or not in float32.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(array, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"entry {name} does not hold numbers: {error}") from error
    if not np.isfinite(array).all():
        raise ValueError(
            f"entry {name} has numbers that are not finite: its network has diverged, or is damaged"
        )
    return array


def fitting(arrays: Arrays, names: Any, tree: Any) -> tuple[Any, list[str], list[str]]:
    """Our variables with the arrays that fit them in the place of their own.

    Args:
      arrays: by official name; any may be missing, unknown or of another shape.
      names: what `generator_names` or `discriminator_names` returns.
      tree: arrays in the form of `names`.

    Returns:
      The tree; the names, with the reason, of what kept its own; the names of unknown arrays.
    """
    kept = []

    def leaf(name: str, ours: jax.Array) -> jax.Array:
        if name not in arrays:
            kept.append(f"{name} (new)")
            return ours
        layout, array = _layout(name, ours.shape), np.asarray(arrays[name])
        if array.shape != layout.shape:
            kept.append(f"{name} ({array.shape} there, {layout.shape} here)")
            return ours
        return jax.device_put(layout.to_ours(array).astype(np.float32), ours.sharding)

    fitted = jax.tree.map(leaf, names, tree)
    wanted = set(jax.tree.leaves(names))
    unknown = [k for k in arrays if k not in wanted and not UNUSED.fullmatch(k)]
    return fitted, kept, unknown


def to_arrays(names: Any, tree: Any) -> dict[str, np.ndarray]:
    """Our variables, or their gradients, as arrays in the official layout by official name.

    Args:
      names: `generator_names` or `discriminator_names`, or a part of them.
      tree: arrays in the form of `names`.
    """

    def leaf(name: str, array: jax.Array) -> tuple[str, np.ndarray]:
        array = np.asarray(array)
        return name, _layout(name, array.shape).to_official(array)

    pairs = jax.tree.map(leaf, names, tree)
    return dict(jax.tree.leaves(pairs, is_leaf=lambda x: isinstance(x, tuple)))
