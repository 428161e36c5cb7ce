"""Averages of G's parameters over its whole training, of any length, from two that are kept.

Karras et al. 2024 (https://arxiv.org/abs/2312.02696, section 3 and appendix C). The average of
exponent g after t steps weighs the parameters of step s by (g + 1) s^g / t^(g + 1): its length
grows with the training, and is told as sigma, the standard deviation of that profile in units of t.
Snapshots of two of them, taken now and then, span a space in which the profile of any other length
is all but a sum: the same sum of the snapshots is, all but, that average.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

SIGMAS = 0.05, 0.10  # of those that are kept


def exponent(sigma: float) -> float:
    """The g of which sigma = sqrt(g + 1) / ((g + 2) sqrt(g + 3)).

    Raises:
      ValueError: sigma is not between 0 and sqrt(1 / 12), that of all steps alike.
    """
    if not 0 < sigma < 12**-0.5:
        raise ValueError(f"sigma={sigma} must be between 0 and {12**-0.5:.4f}")
    inverse = sigma**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(max(roots.real))


EXPONENTS = tuple(map(exponent, SIGMAS))


def moved(averages: Sequence[Any], params: Any, step: Array) -> tuple[Any, ...]:
    """The averages after a step, counted from 1, which gave these parameters.

    average += (1 - (1 - 1 / step)^(g + 1)) (params - average).
    """
    of_step = step.astype(jnp.float32)

    def one(exponent: float, average: Any) -> Any:
        # As 1 - x is not exact in float32 for x near 1.
        share = -jnp.expm1((exponent + 1) * jnp.log1p(-1 / of_step))
        return jax.tree.map(lambda a, p: a + share * (p - a), average, params)

    return tuple(map(one, EXPONENTS, averages))


class Profile(NamedTuple):
    """How an average weighs the steps up to its own."""

    exponent: float
    step: float

    def overlap(self, other: "Profile") -> float:
        """The integral over s from 0 to min(t, u) of the product of two profiles."""
        (g, t), (h, u) = self, other
        least = min(t, u)
        shares = (least / t) ** (g + 1) * (least / u) ** (h + 1)
        return (g + 1) * (h + 1) / (g + h + 1) * shares / least


def weights(kept: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, float]:
    """The sum of the kept profiles that is nearest to the wanted one in the mean square.

    Returns the weights, float64 [kept], brought to a sum of 1, as parameters must not shrink; and
    how far the sum is from the wanted profile, relative to that.
    """
    matrix = np.array([[a.overlap(b) for b in kept] for a in kept])
    right = np.array([a.overlap(wanted) for a in kept])
    scale = 1 / np.sqrt(matrix.diagonal())  # Profiles of early steps are high and narrow.
    solved = np.linalg.lstsq(matrix * scale[:, None] * scale, right * scale, rcond=1e-12)[0] * scale
    solved /= solved.sum()
    power = wanted.overlap(wanted)
    square = solved @ matrix @ solved - 2 * solved @ right + power
    return solved, float(np.sqrt(max(square, 0.0) / power))
