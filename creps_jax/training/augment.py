"""Adaptive discriminator augmentation: images that the discriminator sees, moved and recoloured.

Karras et al. 2020, "Training generative adversarial networks with limited data", appendix B. Of
every image one inverse affine map and one colour matrix are made, each the product of operations
that happen with probability p. All shapes are static: the image is continued by reflection through
indices, without end. Differentiable in the images, as often as one likes.

Notation: N batch. Points are (x, y, 1) in pixels about the image's centre, x right, y down.
Colours are (r, g, b, 1). Images [N, H, W, channels] in about [-1, 1], float32.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax.model.ops import in_float32

Array = jax.Array

# The low-pass filter of the sym6 wavelet, normalised to sum 1.
_TAPS = np.array(
    [
        *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057),
        *(-0.048311742585633, 0.4910559419267466, 0.787641141030194),
        *(0.3379294217276218, -0.07263752278646252, -0.021060292512300564),
        *(0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
    ]
)
_TAPS = _TAPS / _TAPS.sum()

SCALE_STD = 0.2  # of the log2 of isotropic and anisotropic scale
SHIFT_STD = 0.125  # of fractional translation, image sizes
SHIFT_MAX = 0.125  # of integer translation, image sizes
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5  # of its log2
SATURATION_STD = 1.0  # of its log2


class Amounts(NamedTuple):
    """How much of each operation every image gets, in their order; 0 is none of it."""

    flip: Array  # [N], 1: mirrored left-right
    turns: Array  # [N], quarter turns
    integer_shift: Array  # [N, 2], x and y, image sizes; rounded to whole pixels
    log2_scale: Array  # [N]
    rotation: Array  # [N], radians, before the anisotropic scale
    log2_stretch: Array  # [N]
    rotation_after: Array  # [N], radians
    shift: Array  # [N, 2], x and y, image sizes
    brightness: Array  # [N]
    log2_contrast: Array  # [N]
    luma_flip: Array  # [N], 1: bright becomes dark
    hue: Array  # [N], radians
    log2_saturation: Array  # [N]


def draw(key: Array, count: int, p: Array) -> Amounts:
    """Amounts for `count` images: each operation happens with probability p."""
    keys = jax.random.split(key, 3)
    normal = jax.random.normal(keys[0], (7, count))
    uniform = jax.random.uniform(keys[1], (8, count))
    gates = jax.random.uniform(keys[2], (13, count))
    around = 2.0 * uniform - 1.0  # [-1, 1)
    # Two rotations, so that one of them happens with probability p.
    p_rotation = 1.0 - jnp.sqrt(jnp.maximum(1.0 - p, 0.0))
    amounts = Amounts(
        flip=jnp.floor(2.0 * uniform[0]),
        turns=jnp.floor(4.0 * uniform[1]),
        integer_shift=SHIFT_MAX * around[2:4].T,
        log2_scale=SCALE_STD * normal[0],
        rotation=math.pi * around[4],
        log2_stretch=SCALE_STD * normal[1],
        rotation_after=math.pi * around[5],
        shift=SHIFT_STD * normal[2:4].T,
        brightness=BRIGHTNESS_STD * normal[4],
        log2_contrast=CONTRAST_STD * normal[5],
        luma_flip=jnp.floor(2.0 * uniform[6]),
        hue=math.pi * around[7],
        log2_saturation=SATURATION_STD * normal[6],
    )
    gated = []
    for name, amount, gate in zip(Amounts._fields, amounts, gates, strict=True):
        happens = gate < (p_rotation if name.startswith("rotation") else p)
        gated.append(jnp.where(happens if amount.ndim == 1 else happens[:, None], amount, 0.0))
    return Amounts(*gated)


def augment(images: Array, amounts: Amounts) -> Array:
    """The images, each with its own geometry and colour."""

    def one(image: Array, amounts: Amounts) -> Array:
        moved = resample(image, inverse_map(amounts, *image.shape[:2]))
        return recolour(moved, colour_matrix(amounts))

    with in_float32("augmentation"):
        return jax.vmap(one)(images, amounts)


# Geometry of ONE image.


def _matrix(rows: list[list[Array | float]]) -> Array:
    return jnp.stack([jnp.stack([jnp.asarray(x, jnp.float32) for x in row]) for row in rows])


def _scale(x: Array, y: Array) -> Array:
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])


def _rotate(angle: Array) -> Array:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _translate(x: Array, y: Array) -> Array:
    return _matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def inverse_map(a: Amounts, height: int, width: int) -> Array:
    """From a point of the output to the point of the input that is seen there: [3, 3].

    The product of the operations' inverses, the first operation's first. a: amounts of one image.
    """
    size = jnp.array([width, height], jnp.float32)
    steps = jnp.round(a.integer_shift * size)
    scale, stretch = jnp.exp2(-a.log2_scale), jnp.exp2(-a.log2_stretch)
    inverses = (
        _scale(1.0 - 2.0 * a.flip, jnp.ones_like(a.flip)),
        _rotate(math.pi / 2 * a.turns),
        _translate(*-steps),
        _scale(scale, scale),
        _rotate(a.rotation),
        _scale(stretch, 1.0 / stretch),
        _rotate(a.rotation_after),
        _translate(*-(a.shift * size)),
    )
    return _product(inverses)


def _product(matrices: tuple[Array, ...]) -> Array:
    product, *rest = matrices
    for matrix in rest:
        product = jnp.matmul(product, matrix, precision="highest")
    return product


def resample(image: Array, inverse: Array) -> Array:
    """The image seen through a map: doubled, sampled bilinearly on a doubled grid, and halved.

    Both changes of size pass through sym6's filter, so that nothing aliases.
    image [H, W, C], inverse [3, 3] -> [H, W, C].
    """
    doubled = _double(_double(image, 0), 1)
    height, width, _ = image.shape
    # Doubled pixels about the image's centre, and as many more as the halving takes. Their centres
    # are half a doubled pixel off the corners that they stand for.
    y, x = (np.arange(-n - 4.0, n + 6.0, dtype=np.float32) for n in (height, width))
    half = inverse[:2, 2] + np.array([width - 1, height - 1], np.float32) / 2  # Of the constant.

    def part(axis: int, t: np.ndarray) -> Array:
        """What t, x or y of the output, adds to x and y of the input, and half of the constant."""
        along = jnp.stack([inverse[:2, axis], half], axis=1)
        return jnp.matmul(along, np.stack([t, np.ones_like(t)]), precision="highest")

    # Products, so that a compiler that computes the sum in two places gets the same number in both:
    # the corner of a sample and its weights must agree.
    at_x, at_y = part(0, x)[:, None, :] + part(1, y)[:, :, None]
    return _halve(_halve(_sample(doubled, at_y, at_x), 0), 1)


def _double(image: Array, axis: int) -> Array:
    """Twice as many pixels along an axis, for one period of the reflected image, and one more.

    u[j] = 2 sum_i taps[5 + j - 2i] e[i], e the image continued by reflection of period 2 (n - 1).
    """
    period = 2 * (image.shape[axis] - 1)
    length = 2 * period + 1
    blocks = math.ceil(length / _BLOCK)
    block = max(12, 2 * math.ceil(length / blocks / 2))  # At least as long as the filter.
    # Pixels j of a block see e[i] from i = j/2 - 3 on.
    indices = np.arange(-3, blocks * block // 2 + 3) % period
    extended = jnp.take(image, np.minimum(indices, period - indices), axis=axis)
    j, i = np.ogrid[:block, -3 : block // 2 + 3]
    doubled = _in_blocks(extended, axis, 2 * _tap(5 + j - 2 * i), block // 2, blocks)
    return jax.lax.slice_in_dim(doubled, 0, length, axis=axis)


def _sample(periodic: Array, y: Array, x: Array) -> Array:
    """Bilinear samples at y and x, each [h, w], of what repeats all but its last row and column."""
    corner_y, corner_x = jnp.floor(y), jnp.floor(x)
    weight_y, weight_x = (y - corner_y)[..., None], (x - corner_x)[..., None]
    rows, columns = periodic.shape[0] - 1, periodic.shape[1] - 1
    start = [
        jnp.mod(corner.astype(jnp.int32), count)
        for corner, count in ((corner_y, rows), (corner_x, columns))
    ]
    flat = periodic.reshape(-1, periodic.shape[2])
    first = start[0] * (columns + 1) + start[1]

    def at(offset: int) -> Array:
        return jnp.take(flat, first + offset, axis=0, mode="clip")

    above = at(0) + weight_x * (at(1) - at(0))
    below = at(columns + 1) + weight_x * (at(columns + 2) - at(columns + 1))
    return above + weight_y * (below - above)


def _halve(image: Array, axis: int) -> Array:
    """Every second pixel of the filtered image: [2n + 10] along the axis -> [n]."""
    n = (image.shape[axis] - 10) // 2
    blocks = math.ceil(n / _BLOCK)
    block = max(5, math.ceil(n / blocks))  # Two at least as long as the filter.
    j, i = np.ogrid[:block, : 2 * block + 10]
    halved = _in_blocks(image, axis, _tap(i - 2 * j), 2 * block, blocks)
    return jax.lax.slice_in_dim(halved, 0, n, axis=axis)


# Most factors of a filter's matrix are 0: it is as small as products are fast.
_BLOCK = 64


def _tap(k: np.ndarray) -> np.ndarray:
    """The filter's taps, 0 beside them: float32."""
    inside = (k >= 0) & (k < len(_TAPS))
    return np.where(inside, _TAPS[np.where(inside, k, 0)], 0.0).astype(np.float32)


def _in_blocks(image: Array, axis: int, matrix: np.ndarray, step: int, blocks: int) -> Array:
    """The matrix [O, I] times the I pixels from each step-th on, along an axis: [blocks * O].

    I is at most 2 step. Beyond the image is 0.
    """
    outputs, inputs = matrix.shape
    x = jnp.moveaxis(image, axis, 0)
    length, *others = x.shape
    x = jax.lax.pad(x, np.float32(0), [(0, (blocks + 1) * step - length, 0), (0, 0, 0), (0, 0, 0)])
    parts = x.reshape(blocks + 1, step, *others)
    windows = jnp.concatenate([parts[:-1], parts[1:, : inputs - step]], axis=1)
    y = jnp.tensordot(matrix, windows, ((1,), (1,)), precision="highest")
    return jnp.moveaxis(y.swapaxes(0, 1).reshape(blocks * outputs, *others), 0, axis)


# Colour of ONE image.


def colour_matrix(a: Amounts) -> Array:
    """The product of the colour operations, the first one rightmost: [4, 4]. a: of one image."""
    identity = jnp.eye(4)
    luma = jnp.array([1.0, 1.0, 1.0, 0.0]) / math.sqrt(3.0)
    onto_luma = jnp.outer(luma, luma)
    rgb, shift = jnp.diag(jnp.array([1.0, 1.0, 1.0, 0.0])), identity[3]
    contrast, saturation = jnp.exp2(a.log2_contrast), jnp.exp2(a.log2_saturation)
    # Rodrigues' formula: rotation about the luma axis.
    cross = jnp.array(
        [[0.0, -1.0, 1.0, 0.0], [1.0, 0.0, -1.0, 0.0], [-1.0, 1.0, 0.0, 0.0], [0.0] * 4]
    ) / math.sqrt(3.0)
    cos, sin = jnp.cos(a.hue), jnp.sin(a.hue)
    return _product(
        (
            onto_luma + saturation * (identity - onto_luma),
            onto_luma + jnp.outer(shift, shift) + cos * (rgb - onto_luma) + sin * cross,
            identity - 2.0 * a.luma_flip * onto_luma,
            contrast * rgb + jnp.outer(shift, shift),
            identity + a.brightness * jnp.outer(rgb.sum(axis=0), shift),
        )
    )


def recolour(image: Array, matrix: Array) -> Array:
    """image [H, W, 1 or 3] in other colours; a grey one by the mean of the matrix's rows."""
    if image.shape[-1] == 1:
        row = matrix[:3].mean(axis=0)
        return image * row[:3].sum() + row[3]
    # A sum of three: too short for a product of matrices.
    columns = matrix[:3].T[:, None, None, :]
    red, green, blue = (image[..., i : i + 1] * columns[i] for i in range(3))
    return red + green + blue + columns[3]
