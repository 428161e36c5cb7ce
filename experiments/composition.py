"""How thick must lines be, and must every layer's be composed?

    python -m experiments.composition --workdir=runs/composition --quick

Networks that differ in nothing else are trained on as many procedural scenes: of thickness 1, 4,
8 and 16, composed on all layers, and of 4 and 16, composed on the last alone: the other to-bi-line
layers are put back to zero after each step, so that decoders before the last see nothing. Then, of
each:

  fd_lite      distance of fakes from scenes, at the training size
  fd_lite_4x   the same at 4 times the training size, where scenes are exact as well
  self_ssim    of twice the size and the training size

Stopped, the same command goes on with the training. Of several seeds the means are told, and how
far the seeds lie apart.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from configs import demo
from creps_jax import devices
from creps_jax.evaluation.evaluating import evaluate
from creps_jax.model.generator import Variables
from creps_jax.training.loop import Action, train
from creps_jax.training.report import Reporter
from creps_jax.training.run import Run, prepare
from experiments import tables
from experiments.plotting import pyplot

FIGURES = ("fd_lite", "fd_lite_4x", "self_ssim")
ALL, LAST = "all", "last"  # The layers on which rows and columns are composed.


class Variant(NamedTuple):
    """A way to make pixels of lines."""

    composed: str  # ALL or LAST
    thickness: int


VARIANTS = [
    *(Variant(ALL, thickness) for thickness in (1, 4, 8, 16)),
    *(Variant(LAST, thickness) for thickness in (4, 16)),
]


def composed_last(variables: Variables) -> Variables:
    """With the to-bi-line layers of all blocks but the last at zero."""

    def held(path: tuple, leaf: jax.Array) -> jax.Array:
        keys = [getattr(entry, "key", getattr(entry, "idx", None)) for entry in path]
        is_projection = "to_biline" in keys and keys[-1] in ("weight", "bias")
        return leaf * 0 if is_projection and keys[keys.index("blocks") + 1] < last else leaf

    last = len(variables["params"]["lines"]["blocks"]) - 1
    return jax.tree_util.tree_map_with_path(held, variables)


_hold = jax.jit(composed_last, donate_argnums=0)


def hold(run: Run, _: Reporter) -> None:
    """Between two steps: what a step has changed of these layers is undone."""
    run.state = run.state.replace(
        generator=_hold(run.state.generator), g_ema=_hold(run.state.g_ema)
    )


def train_variant(variant: Variant, workdir: Path, kimg: float, seed: int) -> bool:
    """Trains the demo's networks, but for the variant; whether the end was reached."""
    config = demo.get_config()
    config.seed, config.total_kimg = seed, kimg
    config.data.source = "procedural:100000"
    config.generator.thickness = variant.thickness
    config.evaluate.metrics = ""
    config.report.tensorboard = False
    config.report.grid_every_kimg = kimg
    more = [Action(1, hold)] if variant.composed == LAST else []
    return train(prepare(config.to_dict(), workdir), more)


def measure(workdir: Path, images: int) -> dict[str, float]:
    """FIGURES of a trained run."""
    at_1x = evaluate(("fd_lite", "self_ssim"), workdir, images=images, most_reals=images).figures
    at_4x = evaluate(("fd_lite",), workdir, images=images, most_reals=images, size=4 * 32).figures
    found = (at_1x["fd_lite"], at_4x["fd_lite"], at_1x["self_ssim"])
    return {name: figure.value for name, figure in zip(FIGURES, found, strict=True)}


def summary(rows: list[tables.Row]) -> Iterator[tables.Row]:
    """A line for each variant: the means over seeds, and half the way between the ends."""
    for variant in VARIANTS:
        of = [r for r in rows if (r["composed"], r["thickness"]) == variant]
        values = {name: np.array([row[name] for row in of]) for name in FIGURES}
        yield {"composed on": variant.composed, "thickness": variant.thickness} | {
            name: f"{each.mean():.4g} ± {np.ptp(each) / 2:.2g}" if len(of) > 1 else each.mean()
            for name, each in values.items()
        }


def plot(path: Path, rows: list[tables.Row]) -> None:
    """Each figure against the thickness."""
    figure, axes = pyplot.subplots(1, len(FIGURES), figsize=(11, 3.6), layout="constrained")
    for ax, name in zip(axes, FIGURES, strict=True):
        for composed in (ALL, LAST):
            of = [row for row in rows if row["composed"] == composed]
            thicknesses = sorted({row["thickness"] for row in of})
            means = [np.mean([r[name] for r in of if r["thickness"] == t]) for t in thicknesses]
            ax.plot(thicknesses, means, label="all layers" if composed == ALL else "the last layer")
            ax.plot([r["thickness"] for r in of], [r[name] for r in of], "k.", markersize=4)
        ax.set_xscale("log", base=2)
        ax.set(xlabel="thickness", title=name)
        ax.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True, help="holds a run for each network")
    parser.add_argument("--out", type=Path, default=Path("experiments/composition"))
    parser.add_argument(
        "--quick", action="store_true", help="6 kimg, one seed, 500 images; else 24, 3, 2000"
    )
    arguments = parser.parse_args()
    kimg, seeds, images = (6.0, 1, 500) if arguments.quick else (24.0, 3, 2000)
    devices.cache_compilations()
    rows: list[tables.Row] = []
    for seed in range(seeds):
        for variant in VARIANTS:
            workdir = arguments.workdir / f"{variant.composed}-{variant.thickness}-{seed}"
            if not train_variant(variant, workdir, kimg, seed):
                return
            told = {"composed": variant.composed, "thickness": variant.thickness, "seed": seed}
            rows.append(told | {"kimg": kimg} | measure(workdir, images))
            print(*tables.markdown(rows[-1:]), sep="\n", flush=True)
            jax.clear_caches()  # No program is used by another variant.
    print("\n".join(tables.markdown(list(summary(rows)))))
    tables.save(arguments.out / "composition.csv", rows)
    plot(arguments.out / "composition.png", rows)


if __name__ == "__main__":
    main()
