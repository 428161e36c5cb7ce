"""All metrics by name, and how they are measured: features first, then distances, then moves.

A figure has an interval, 95 % of the bootstrap over the images that it is of (fakes; of recall and
coverage, reals): what other images would have given. Reals are taken as all that there are.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from creps_jax.data.hosts import ALONE, Hosts, together
from creps_jax.evaluation import distances, features
from creps_jax.evaluation.consistency import measures
from creps_jax.evaluation.extraction import Features, features_of, kept_in
from creps_jax.evaluation.networks import Network
from creps_jax.evaluation.sets import Fakes, Images
from creps_jax.progress import Progress, Silent

# Of fakes and reals; a value of each image, by metric.
Measure = Callable[[Features, Features], dict[str, np.ndarray]]

RESAMPLES, SHARE = 1000, 0.95  # Of the bootstrap, and of what the interval holds.
MOVED = 64  # Images, at most, that consistency is measured of.


class Distance(NamedTuple):
    """Metrics of the same features, measured together."""

    network: str  # As networks.py names it.
    best: dict[str, str]  # "higher" or "lower", by metric
    measure: Measure


def _distances(network: str, suffix: str = "", fd: str = "fid", kd: str = "kid") -> list[Distance]:
    def frechet(fakes: Features, reals: Features) -> dict[str, np.ndarray]:
        return {fd: distances.frechet(fakes["features"], reals["features"])}

    def kernel(fakes: Features, reals: Features) -> dict[str, np.ndarray]:
        return {kd: distances.kernel(fakes["features"], reals["features"])}

    def manifolds(fakes: Features, reals: Features) -> dict[str, np.ndarray]:
        found = distances.manifolds(fakes["features"], reals["features"])
        return {f"{name}{suffix}": values for name, values in found._asdict().items()}

    names = [f"{name}{suffix}" for name in distances.Manifolds._fields]
    return [
        Distance(network, {fd: "lower"}, frechet),
        Distance(network, {kd: "lower"}, kernel),
        Distance(network, dict.fromkeys(names, "higher"), manifolds),
    ]


def _inception_score(fakes: Features, _: Features) -> dict[str, np.ndarray]:
    return {"is": distances.inception_score(fakes["logits"])}


DISTANCES = (
    *_distances("lite", "_lite", "fd_lite", "kd_lite"),
    *_distances("inception"),
    Distance("inception", {"is": "higher"}, _inception_score),
    *_distances("inception_clean", "_clean", "fid_clean", "kid_clean"),
)
BEST = {name: best for group in DISTANCES for name, best in group.best.items()}
BEST |= {name: metric.best for name, metric in measures.METRICS.items()}


class Figure(NamedTuple):
    """A metric's figure, and the interval of 95 %."""

    value: float
    low: float
    high: float


def parse(text: str) -> tuple[str, ...]:
    """'fd_lite,kd_lite' -> its metrics, each once.

    Raises:
      ValueError: names what is none, and all that there are.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in BEST:
            raise ValueError(f"{name!r} is no metric; there are {', '.join(BEST)}")
    return tuple(dict.fromkeys(names))


def networks_of(metrics: Sequence[str]) -> set[str]:
    """The networks that the metrics need."""
    return {group.network for group in DISTANCES if group.best.keys() & set(metrics)}


def check_installed(metrics: Sequence[str]) -> None:
    """Raises ValueError, which says what to install, if the metrics need what is missing."""
    if "lite" in networks_of(metrics):
        features.installed()


def measure(
    metrics: Sequence[str],
    fakes: Images,
    reals: Images | None,
    networks: dict[str, Network],
    mesh: Mesh,
    folder: Path | None = None,
    shown: Progress | None = None,
    hosts: Hosts = ALONE,
) -> dict[str, Figure]:
    """The figures of some metrics.

    Args:
      metrics: of parse().
      reals: None where no metric needs features.
      networks: by name, those of networks_of(metrics).
      mesh: the devices that share the work; all processes must call it.
      folder: where features are kept, so that a stopped call goes on where it was, and reals are
        seen once; None: nothing is kept.

    Raises:
      ValueError: there are too few images, or too small ones, or no generator where a metric needs
        one.
      OSError: images cannot be read, or the disk fails.
    """
    shown = shown or Silent()
    moved = [name for name in metrics if name in measures.METRICS]
    if moved and not isinstance(fakes, Fakes):
        raise ValueError(f"{moved[0]} is measured of a generator, not of a set of images")
    groups = [group for group in DISTANCES if group.best.keys() & set(metrics)]
    needed = dict.fromkeys(group.network for group in groups)
    assert reals is not None or not needed
    shown.stage(len(needed) * (len(fakes) + len(reals or ())), "images")
    features = {
        name: [
            features_of(
                images,
                networks[name],
                mesh,
                folder and kept_in(folder, images, networks[name]),
                shown,
                hosts,
            )
            for images in (fakes, reals)
        ]
        for name in needed
    }
    found: dict[str, Figure] = {}
    with together(hosts):
        if hosts.index == 0:  # Others have no features.
            for group in groups:
                values = group.measure(*features[group.network])
                found |= {name: figure(each, float) for name, each in values.items()}
            found |= {name: _of_moves(name, fakes) for name in moved}
    figures = hosts.gather({name: found[name] for name in metrics if name in found})[0]
    return {name: Figure(*figures[name]) for name in metrics}


def _of_moves(name: str, fakes: Fakes) -> Figure:
    metric = measures.METRICS[name]
    ws = fakes.latents(0, min(MOVED, len(fakes)))
    values = metric.measure(fakes.generator, fakes.variables, ws, fakes.crop.seed)
    return figure(values, metric.in_unit)


def figure(values: np.ndarray, in_unit: Callable[[float], float]) -> Figure:
    """in_unit of the mean of values [n], and of what the bootstrap makes of it."""
    random = np.random.default_rng(0)
    means = [
        values[random.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)
    ]
    ends = np.quantile(means, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    low, high = sorted(in_unit(float(end)) for end in ends)
    return Figure(float(in_unit(float(values.mean()))), float(low), float(high))
