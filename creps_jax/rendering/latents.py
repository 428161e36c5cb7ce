"""From seeds to the latents of images' layers, one after the other: see rounds.py.

Shapes: z [N, z_dim]; ws [N, num_ws, w_dim].
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from creps_jax import rng
from creps_jax.arguments import about
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering.checks import is_number, is_whole
from creps_jax.rendering.rounds import each, in_rounds


@rng.pinned()
def draw_z(seeds: Sequence[int], z_dim: int) -> np.ndarray:
    """The latents z that seeds stand for: float32 [N, z_dim].

    Raises:
      ValueError: a seed is out of range.
    """
    with about("seed"):
        for seed in seeds:
            check_seed(seed)
    draw = functools.partial(_z, z_dim)
    return in_rounds(lambda count, some: draw(count, rng.root(some)), np.asarray(seeds, np.uint32))


def each_seed(seed: int | Sequence[int]) -> list[int]:
    """The seeds that one or several are, each once.

    Raises:
      ValueError: there is none, or one is out of range.
    """
    with about("seed"):
        seeds = list(seed) if np.ndim(seed) else [seed]
        for number in seeds:
            check_seed(number)
        if not seeds:
            raise ValueError("give one seed at least")
    return list(dict.fromkeys(map(int, seeds)))


def check_seed(seed: int) -> None:
    """Raises ValueError unless it is a seed."""
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r} must be a whole number from 0 to {2**32 - 1}")


@rng.pinned()
def map_latents(
    generator: Generator,
    variables: Variables,
    z: np.ndarray,
    label: int | None = None,
    psi: float = 1.0,
    cutoff: int | None = None,
) -> np.ndarray:
    """The latents of all layers that z [N, z_dim] is mapped to: float32 [N, num_ws, w_dim].

    Args:
      z: finite, float32.
      label: the class; None if and only if the generator is unconditional.
      psi: truncation: 1 changes nothing, 0 gives the mean image.
      cutoff: truncate only the latents of the first `cutoff` layers; None: of all.

    Raises:
      ValueError: an argument is out of range, or the latents exceed float32.
    """
    config = generator.config
    with about("label"):
        check_label(label, config.num_classes)
    with about("truncation"):
        check_truncation(psi)
    with about("cutoff"):
        check_cutoff(cutoff, config.num_ws)
    c = np.zeros((1, config.num_classes), np.float32)
    if label is not None:
        c[0, label] = 1.0
    cutoff = cutoff if cutoff is None else int(cutoff)  # One compilation for equal numbers.
    ws = in_rounds(functools.partial(_ws, generator, variables, c, float(psi), cutoff), z)
    with about("truncation"):
        if not np.isfinite(ws).all():
            raise ValueError(
                f"truncation={psi} makes latents that float32 cannot hold, or the weights do"
            )
    return ws


def check_label(label: int | None, num_classes: int) -> None:
    """Raises ValueError unless the label is a class, or None without classes."""
    if num_classes == 0 and label is not None:
        raise ValueError(f"the generator is unconditional (num_classes=0), got class {label}")
    if num_classes > 0 and not (is_whole(label) and 0 <= label < num_classes):
        raise ValueError(
            f"the generator needs a class from 0 to {num_classes - 1} "
            f"(num_classes={num_classes}), got {label}"
        )


def check_truncation(psi: float) -> None:
    """Raises ValueError unless psi is a number from 0 up that float32 can hold."""
    if not (is_number(psi) and psi >= 0):
        raise ValueError(f"truncation={psi!r} must be a finite number from 0 up, within float32")


def check_cutoff(cutoff: int | None, num_ws: int) -> None:
    """Raises ValueError unless the cutoff is None or a number of layers."""
    if cutoff is not None and not (is_whole(cutoff) and 0 <= cutoff <= num_ws):
        raise ValueError(
            f"cutoff={cutoff!r} must be a whole number from 0 to {num_ws}, the number of layers"
        )


def check_styles(styles: Mapping[int, int], num_ws: int) -> None:
    """Raises ValueError unless it maps layers to seeds."""
    if not isinstance(styles, Mapping):
        raise ValueError(f"styles={styles!r} must be a mapping of layers to seeds")
    for layer, seed in styles.items():
        if not (is_whole(layer) and 0 <= layer < num_ws):
            raise ValueError(
                f"layer {layer!r} must be from 0 to {num_ws - 1}: there are {num_ws}, counted in "
                "whole numbers"
            )
        check_seed(seed)


@functools.partial(jax.jit, static_argnames="z_dim")
def _z(z_dim, count, roots):
    return each(lambda root: jax.random.normal(rng.stream(root, "z", 0), (z_dim,)), count, roots)


@functools.partial(jax.jit, static_argnames=("generator", "cutoff"))
def _ws(generator, variables, c, psi, cutoff, count, z):
    def of_one(z):
        w = generator.apply(variables, z[None], c, method="map")
        return generator.apply(variables, w, psi, cutoff, method="truncate")[0]

    return each(of_one, count, z)
