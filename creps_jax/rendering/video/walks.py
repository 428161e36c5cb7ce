"""Walks through the latents of several images.

Notation of timing.py; z [K, D] and ws [K, num_ws, w_dim] the latents at key-frames.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from creps_jax.arguments import about
from creps_jax.model import biline
from creps_jax.rendering.latents import draw_z
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.video.timing import Timing


def linear(s: np.ndarray) -> list[np.ndarray]:
    """Shares of the key-frames k - 1, k, k + 1 and k + 2 at s past key-frame k: a straight line."""
    return [0 * s, 1 - s, s, 0 * s]


def cubic(s: np.ndarray) -> list[np.ndarray]:
    """The same of a Catmull-Rom spline: its slope at key-frame k is (p_k+1 - p_k-1) / 2."""
    return [
        (-s + 2 * s**2 - s**3) / 2,
        (2 - 5 * s**2 + 3 * s**3) / 2,
        (s + 4 * s**2 - 3 * s**3) / 2,
        (-(s**2) + s**3) / 2,
    ]


INTERPOLATIONS = {"linear": linear, "cubic": cubic, "spherical": None}  # None: of z, by slerp.


def shares(
    u: np.ndarray, keys: int, loop: bool, basis: Callable[[np.ndarray], list[np.ndarray]]
) -> np.ndarray:
    """Of every key-frame in every frame: [T, K], rows sum to 1.

    Beyond the ends lie the other end's key-frames, or without a loop the mirrored: 2 p_0 - p_1.
    """
    ends = {"mode": "wrap"} if loop else {"mode": "reflect", "reflect_type": "odd"}
    knots = np.pad(np.eye(keys), ((1, 2), (0, 0)), **ends)
    k = np.floor(u).astype(int)
    return sum(share[:, None] * knots[k + j] for j, share in enumerate(basis(u - k)))


def slerp(z: np.ndarray, u: np.ndarray) -> np.ndarray:
    """z [K, D], on great circles from each to the next: [T, D].

    z = (sin((1 - s) a) z_k + sin(s a) z_k+1) / sin(a), where a is the angle between the two.
    """
    k = np.floor(u).astype(int)
    z = z.astype(np.float64)
    s, start, end = (u - k)[:, None], z[k % len(z)], z[(k + 1) % len(z)]
    norms = np.linalg.norm(start, axis=1) * np.linalg.norm(end, axis=1)
    angle = np.arccos(np.clip(np.sum(start * end, axis=1) / norms, -1.0, 1.0))[:, None]

    def share(s: np.ndarray) -> np.ndarray:
        return s * np.sinc(s * angle / np.pi) / np.sinc(angle / np.pi)  # Defined at angle 0 too.

    return share(1 - s) * start + share(s) * end


def walk(
    painter: Painter,
    seeds: Sequence[int],
    timing: Timing,
    interpolation: str = "linear",
    label: int | None = None,
    truncation: float = 1.0,
) -> Iterator[biline.Image]:
    """The image of every frame on the way through the latents of some seeds.

    Args:
      interpolation: 'linear' or 'cubic' of the latents w; 'spherical' of the mapping's inputs z.
      label, truncation: of Painter.latents().

    Raises:
      ValueError: what Painter.latents() raises, at once; or there are no seeds, or no such
        interpolation.
    """
    with about("interpolation"):
        if not isinstance(interpolation, str) or interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation={interpolation!r} must be one of {', '.join(INTERPOLATIONS)}"
            )
    with about("seeds"):
        if not len(seeds):
            raise ValueError("give one seed at least")

    # The latents at the key-frames. Where all are of one seed, its image is made once.
    ws = np.stack([painter.latents(seed, label, truncation) for seed in seeds])
    if len(set(seeds)) == 1:
        return itertools.repeat(painter.image(ws[0]), timing.frames)

    # The latents of every frame.
    basis, u = INTERPOLATIONS[interpolation], timing.along(len(seeds))
    if basis is None:
        z_dim = painter.generator.config.z_dim
        z = slerp(draw_z(seeds, z_dim), u)
        way = (painter.map(one, label, truncation) for one in z)
    else:
        way = (np.tensordot(row, ws, 1) for row in shares(u, len(seeds), timing.loop, basis))
    return map(painter.image, way)
