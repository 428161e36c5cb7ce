"""The network that comes with the program: how it became better, and the files that are shipped.

    python -m creps_jax.main --config=configs/scenes.py --workdir=runs/scenes
    python -m experiments.scenes --workdir=runs/scenes
    python -m experiments.scenes --workdir=runs/scenes --sigma=.1 --ship=creps_jax/networks

Of the averages at snapshots that the run has taken:

  fd_lite      distance of fakes from scenes, at the training size
  fd_lite_4x   the same at 4 times the training size, where scenes are exact as well
  self_ssim    of an image at twice the training size and at it

and, as references, the distances of other scenes, which are what chance makes of them, and, at 4
times the size, those of the training size's fakes and scenes enlarged by an antialiased cubic.
Stopped, the same command goes on. With --ship the last average goes to FOLDER/scenes.safetensors,
with a card of its figures.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import creps_jax
from creps_jax import devices
from creps_jax.checkpoint import load_networks
from creps_jax.data.scenes import procedural
from creps_jax.evaluation.evaluating import evaluate
from creps_jax.evaluation.metrics import Figure
from creps_jax.interop import exporting
from creps_jax.progress import progress
from creps_jax.training import snapshots
from experiments import tables
from experiments.plotting import pyplot

ENLARGED = 4
REALS = "procedural:1000000"


def measure(folder: Path, side: int, images: int) -> dict[str, float]:
    """The figures of a checkpoint, kept beside it."""
    kept = folder / f"figures-{images}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    found = figures_of(("fd_lite", "self_ssim"), folder, images)
    found |= {"fd_lite_4x": figures_of(("fd_lite",), folder, images, ENLARGED * side)["fd_lite"]}
    figures = {name: figure.value for name, figure in found.items()}
    kept.write_text(json.dumps(figures))
    return figures


def figures_of(
    metrics: Sequence[str], folder: Path, images: int, size: int | None = None
) -> dict[str, Figure]:
    """Of a checkpoint; or, if it holds pictures, of these."""
    if (folder / "checkpoints").exists():
        what = {"workdir": folder}
    else:
        what = {"fakes": f"folder:{folder}", "reals": REALS}
    with progress() as shown:
        return evaluate(
            metrics, **what, images=images, most_reals=images, size=size, shown=shown
        ).figures


def references(average: Path, folder: Path, side: int, images: int) -> list[tables.Row]:
    """The distances of what no network of any size has made."""
    painter, large = creps_jax.load(average), ENLARGED * side

    def other_scenes(seed: int, side: int) -> np.ndarray:
        return procedural.scene(10**6 + seed, side)

    def saved(name: str, picture: Callable[[int], np.ndarray], side: int) -> float:
        there = folder / name
        there.mkdir(parents=True, exist_ok=True)
        for seed in range(images):
            file = there / f"{seed:05d}.png"
            if not file.exists():
                image = Image.fromarray(picture(seed))
                image.resize((side, side), Image.Resampling.BICUBIC).save(file)
        return figures_of(("fd_lite",), there, images, side)["fd_lite"].value

    return [
        {
            "of": "other scenes",
            "fd_lite": saved("scenes", lambda seed: other_scenes(seed, side), side),
            "fd_lite_4x": saved("scenes_4x", lambda seed: other_scenes(seed, large), large),
        },
        {
            "of": "other scenes, enlarged",
            "fd_lite_4x": saved("scenes_enlarged", lambda seed: other_scenes(seed, side), large),
        },
        {
            "of": "the network's images, enlarged",
            "fd_lite_4x": saved("fakes_enlarged", lambda seed: painter.render(seed), large),
        },
    ]


def plot(path: Path, rows: list[tables.Row]) -> None:
    """The figures against the images shown."""
    kimg = [row["kimg"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, label in (("fd_lite", "training size"), ("fd_lite_4x", "4 times the size")):
        left.plot(kimg, [row[name] for row in rows], "o-", label=label)
    left.set(xlabel="kimg", title="fd_lite", yscale="log")
    left.legend(frameon=False)
    right.plot(kimg, [row["self_ssim"] for row in rows], "o-")
    right.set(xlabel="kimg", title="SelfSSIM at twice the size")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def ship(folder: Path, step: int, figures: dict[str, float], out: Path) -> None:
    """Writes the generator of a checkpoint, with its figures in the card."""
    saved = load_networks(folder)._replace(imported=None, step=step, figures=figures)
    out.mkdir(parents=True, exist_ok=True)
    for file in exporting.write(saved, "safetensors", out / "scenes.safetensors", ["G_ema"]):
        print(f"{file}: {file.stat().st_size / 2**20:.2f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("experiments/scenes"))
    parser.add_argument("--sigma", type=float, default=0.1, help="length of the averages")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--every", type=int, default=1, help="snapshots from one to the next")
    parser.add_argument("--ship", type=Path, help="folder of the shipped network")
    arguments = parser.parse_args()
    devices.cache_compilations()
    averages = arguments.workdir / "of" / f"{arguments.sigma:g}"
    rows: list[tables.Row] = []
    steps = snapshots.steps(arguments.workdir)[:: -arguments.every][::-1]  # The last is one.
    if not steps:
        raise SystemExit(f"Error: {arguments.workdir} has no snapshots: train there first")
    for step in steps:
        folder = averages / str(step)
        snapshots.average(arguments.workdir, arguments.sigma, folder, step)
        config = load_networks(folder).config
        side = config["resolution"]
        figures = measure(folder, side, arguments.images)
        rows.append({"kimg": step * config["batch_size"] / 1000} | figures)
        print(*tables.markdown(rows[-1:]), sep="\n", flush=True)
    if arguments.ship:
        return ship(folder, step, figures, arguments.ship)
    arguments.out.mkdir(parents=True, exist_ok=True)
    plot(arguments.out / "scenes.png", rows)
    rows += references(folder, folder / "pictures", side, arguments.images)
    print(*tables.markdown(rows), sep="\n")
    tables.save(arguments.out / "scenes.csv", rows)


if __name__ == "__main__":
    main()
