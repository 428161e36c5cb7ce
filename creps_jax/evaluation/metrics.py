"""All metrics by name, and how they are measured: features first, then distances, then moves.

A figure has an interval, 95 % of the bootstrap over the fakes: what others would have given. Reals
are taken as all that there are.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from creps_jax.data.hosts import ALONE, Hosts, together
from creps_jax.evaluation import distances
from creps_jax.evaluation.consistency import measures
from creps_jax.evaluation.extraction import Features, features_of, kept_in
from creps_jax.evaluation.networks import Network
from creps_jax.evaluation.sets import Fakes, Images, uniform
from creps_jax.progress import Progress, Silent

# Of fakes and reals; values whose mean is the figure, by metric.
Measure = Callable[[Features, Features], dict[str, np.ndarray]]

RESAMPLES, SHARE = 1000, 0.95  # Of the bootstrap, and of what the interval holds.
MOVED = 64  # Images, at most, that consistency is measured of.


class Distance(NamedTuple):
    """Metrics of the same features, measured together."""

    network: str  # As networks.py names it.
    best: dict[str, str]  # "higher" or "lower", by metric
    measure: Measure
    least: int  # images, of each kind
    needs_reals: bool = True


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
        Distance(network, {fd: "lower"}, frechet, 2),
        Distance(network, {kd: "lower"}, kernel, 2),
        Distance(
            network, dict.fromkeys(names, "higher"), manifolds, distances.DENSITY_NEIGHBOURS + 1
        ),
    ]


def _inception_score(fakes: Features, _: Features) -> dict[str, np.ndarray]:
    return {"is": distances.inception_score(fakes["logits"])}


DISTANCES = (
    *_distances("lite", "_lite", "fd_lite", "kd_lite"),
    *_distances("inception"),
    Distance("inception", {"is": "higher"}, _inception_score, distances.SPLITS, needs_reals=False),
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


def groups_of(metrics: Sequence[str]) -> list[Distance]:
    """The distances among the metrics."""
    return [group for group in DISTANCES if group.best.keys() & set(metrics)]


def networks_of(metrics: Sequence[str]) -> set[str]:
    """The networks that the metrics need."""
    return {group.network for group in groups_of(metrics)}


def needs_reals(metrics: Sequence[str]) -> bool:
    """Whether any of the metrics compares with reals."""
    return any(group.needs_reals for group in groups_of(metrics))


def check_possible(
    metrics: Sequence[str], shape: tuple[int, int], fakes: int, reals: int | None
) -> None:
    """Raises ValueError, which names the metric, if images are too small or too few.

    Args:
      shape: height and width of the training images, px.
      fakes, reals: how many there are; None: no reals are needed.
    """
    for group in groups_of(metrics):
        for kind, count in (("fakes", fakes), ("reals", reals if group.needs_reals else None)):
            if count is not None and count < group.least:
                name = next(name for name in metrics if name in group.best)
                raise ValueError(f"{name} needs {group.least} {kind} at least; there are {count}")
    for name in metrics:
        if name in measures.METRICS and min(shape) < (least := measures.METRICS[name].least_px):
            raise ValueError(
                f"{name} needs images of {least} x {least} px at least; these have "
                f"{shape[0]} x {shape[1]}"
            )


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
      reals: None where no metric compares with them.
      networks: by name, those of networks_of(metrics).
      mesh: the devices that share the work; all processes must call it.
      folder: where features are kept, so that a stopped call goes on where it was, and reals are
        seen once; None: nothing is kept.

    Raises:
      ValueError: there are too few images, or too small ones, or no generator where a metric needs
        one; before any work.
      OSError: images cannot be read, or the disk fails.
    """
    shown = shown or Silent()
    moved = [name for name in metrics if name in measures.METRICS]
    if moved and not isinstance(fakes, Fakes):
        raise ValueError(f"{moved[0]} is measured of a generator, not of a set of images")
    shape = fakes.generator.config.shape if isinstance(fakes, Fakes) else fakes.crop.window
    check_possible(metrics, shape, len(fakes), None if reals is None else len(reals))
    groups = groups_of(metrics)
    sets = {
        name: [fakes, reals if any(g.network == name and g.needs_reals for g in groups) else None]
        for name in dict.fromkeys(group.network for group in groups)
    }
    shown.stage(sum(len(each) for both in sets.values() for each in both if each), "images")
    features = {
        name: [
            images
            and features_of(
                images,
                networks[name],
                mesh,
                folder and kept_in(folder, images, networks[name]),
                shown,
                hosts,
            )
            for images in both
        ]
        for name, both in sets.items()
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
    shares = uniform(fakes.generator.config.num_classes)  # Whichever reals there may be.
    ws = fakes.latents(0, min(MOVED, len(fakes)), shares)
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
