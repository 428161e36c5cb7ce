"""Does the discriminator learn a small set by heart, with and without ADA?

    for kind in none ada; do python -m creps_jax.main --config=configs/demo.py \\
      --workdir=runs/300/$kind --config.augment.kind=$kind --config.augment.kimg=25 \\
      --config.data.source=procedural:300 --config.data.mirror=False --config.resolution=16 \\
      --config.discriminator.channel_base=2048 --config.discriminator.channel_max=128 \\
      --config.recipe.r1_gamma=0.002 --config.total_kimg=250 \\
      --config.checkpoint.every_kimg=5 --config.checkpoint.keep=100; done
    python -m experiments.overfitting --runs=runs/300 --out=experiments/overfitting

The mean sign of the discriminator's logits at every checkpoint, without augmentation: of the 300
scenes that it learns from, of 300 that it has never seen, and of as many fakes. As long as it
generalises, both sets of scenes look alike to it. Writes overfitting.csv and overfitting.png.
The two runs take about 80 minutes on 2 cores.
"""

import argparse
import csv
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax.checkpoint import load_networks
from creps_jax.config import parse
from creps_jax.data.scenes import procedural
from creps_jax.model.coordinates import training_positions
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from experiments.plotting import pyplot

IMAGES = 300
BATCH = 4  # of one group of the minibatch standard deviation
KINDS = ("none", "ada")
SETS = ("seen", "unseen", "fakes")
MEAN_OF = 8  # checkpoints: D swings from one to the next


def scenes(first: int, size: int, channels: int) -> np.ndarray:
    """IMAGES procedural scenes from the given one on, float32 in [-1, 1]."""
    images = [procedural.scene(i, size, channels) for i in range(first, first + IMAGES)]
    return np.stack(images).astype(np.float32) / 127.5 - 1


@functools.partial(jax.jit, static_argnums=0)
def paint(generator: Generator, variables: dict, z: jax.Array) -> jax.Array:
    """Latents z [N, z_dim] -> images on the training grid."""
    y, x = (jnp.asarray(p) for p in map(training_positions, generator.config.shape))
    return generator.apply(variables, z, jnp.zeros((len(z), 0)), y, x)


@functools.partial(jax.jit, static_argnums=0)
def judge(discriminator: Discriminator, variables: dict, images: jax.Array) -> jax.Array:
    """Mean sign of the logits of images [N, H, W, channels], N a multiple of BATCH."""
    batches = images.reshape(-1, BATCH, *images.shape[1:])
    labels = jnp.zeros((BATCH, 0))
    return jnp.sign(
        jax.lax.map(lambda batch: discriminator.apply(variables, batch, labels), batches)
    ).mean()


def measure(workdir: Path) -> list[dict[str, float]]:
    """A row of kimg and mean signs for each checkpoint of a run."""
    rows, folders = [], list((workdir / "checkpoints").glob("[0-9]*"))
    if not folders:
        raise SystemExit(f"{workdir} has no checkpoints: train there by the commands above")
    for folder in sorted(folders, key=lambda f: int(f.name)):
        networks, raw_config = load_networks(folder)
        config = parse(raw_config)
        size, channels = config.data.shape[0], config.data.image_channels
        z = jax.random.normal(jax.random.key(0), (IMAGES, config.generator.z_dim))
        of = {
            "seen": scenes(0, size, channels),
            "unseen": scenes(IMAGES, size, channels),
            "fakes": paint(Generator(config.generator), networks["G"], z),
        }
        judged = functools.partial(judge, Discriminator(config.discriminator), networks["D"])
        signs = {name: float(judged(jnp.asarray(of[name]))) for name in SETS}
        rows.append({"kimg": int(folder.name) * config.recipe.batch_size / 1000, **signs})
        print(
            workdir.name, *(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="holds the workdirs none and ada")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = {kind: measure(arguments.runs / kind) for kind in KINDS}
    with (arguments.out / "overfitting.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["augment", "kimg", *(f"sign_{name}" for name in SETS)])
        for kind in KINDS:
            writer.writerows(
                [kind, row["kimg"], *(f"{row[name]:.3f}" for name in SETS)] for row in rows[kind]
            )
    plot(rows, arguments.out / "overfitting.png")


def plot(rows: dict[str, list[dict[str, float]]], path: Path) -> None:
    """The signs of each run, and the gaps between seen and unseen scenes of both."""
    figure, (*of_kinds, gaps) = pyplot.subplots(1, 3, figsize=(13, 4))
    for axes, (kind, of) in zip(of_kinds, rows.items(), strict=True):
        kimg = np.array([row["kimg"] for row in of])
        signs = {name: np.array([row[name] for row in of]) for name in SETS}
        for name in SETS:
            axes.plot(kimg, signs[name], label=name)
        axes.set_title(f"augment.kind={kind}")
        axes.set_ylim(-1.1, 1.1)
        gap = np.convolve(signs["seen"] - signs["unseen"], np.ones(MEAN_OF) / MEAN_OF, "valid")
        gaps.plot(kimg[MEAN_OF - 1 :], gap, label=kind)
    gaps.set_title(f"seen - unseen, means of {MEAN_OF} checkpoints")
    gaps.set_ylim(bottom=0)
    of_kinds[0].set_ylabel("mean sign of D's logits")
    for axes in (*of_kinds, gaps):
        axes.set_xlabel("kimg")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
