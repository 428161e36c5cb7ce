"""`creps evaluate`: how good and how consistent a network's images are."""

import json
import math
import os
from pathlib import Path
from typing import Annotated

import typer

from creps_jax import disk, places
from creps_jax.options import (
    Model,
    Truncation,
    WorkdirOrModel,
    argument_errors,
    check_range,
    check_truncation,
    network_path,
    one_line_errors,
    option,
    parse_frame,
    parse_size,
    require_train_extra,
)
from creps_jax.progress import progress

QUICK = 2000


def evaluate(
    workdir: WorkdirOrModel = None,
    model: Model = None,
    fakes: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="A set of images in the place of a run: folder:DIR, zip:FILE, tfds:NAME, ...",
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="fd_lite, kd_lite, precision_lite, ..., of features that pip installs; fid, kid, "
            "is, precision, ..., fid_clean, ... of Inception's; self_ssim, eq_t, eq_r, eq_z, "
            "sticking, aliasing, ppl, which need none. See docs/evaluation.md."
        ),
    ] = "fd_lite,kd_lite",
    reals: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Real images. [default: what the run trained on]"),
    ] = None,
    images: Annotated[
        int, typer.Option(help="Fakes; reals are all that there are, 50,000 at most.")
    ] = 50_000,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"At most {QUICK} fakes and {QUICK} reals.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Size of the images, px; fakes are painted, reals brought to it. [default: of "
            "the training images]",
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH", help="Part of each image, at random. [default: all of it]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first fake, and of windows.")] = 0,
    truncation: Truncation = 1.0,
    inception: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="pt_inception-2015-12-05-6726825d.pth, for fid and the like. [default: it is "
            "downloaded once]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="The figures, and what they are of.")
    ] = None,
) -> None:
    """Print figures of a network: how far its images are from real ones, how they keep at scales.

    A line for each metric: its name, its figure, and the interval that holds it with 95 % over
    other images. Figures are the same each time and on any number of devices; stopped, the same
    command goes on.

    Example: creps evaluate --workdir=runs/demo --metrics=fd_lite,kd_lite --images=2000
    """
    with option("--workdir"):
        if [workdir, model, fakes].count(None) != 2:
            raise ValueError("give --workdir, --model, or --fakes with --reals and --size")
        require_train_extra("grain")
    path = network_path(workdir, model) if fakes is None else None
    with option("--size"):
        frame = None if size is None else parse_frame(size)
    with option("--window"):
        part = None if window is None else parse_size(window)
    with option("--images"):
        check_range(images, 2, 10**7)
    with option("--seed"):
        check_range(seed, 0, 2**32 - images)
    with option("--truncation"):
        check_truncation(truncation)
    with option("--inception"):
        weights = None if inception is None else disk.local_path(inception)
    with option("--out"):
        file = None if out is None else places.path(out)
        if file is not None:
            _check_writable(file)

    from creps_jax import devices
    from creps_jax.evaluation.evaluating import IMAGES, evaluate
    from creps_jax.evaluation.metrics import BEST, parse

    devices.cache_compilations()
    with option("--metrics"):
        names = parse(metrics)
    full = devices.memory_errors(devices.FOR_PAINTING)
    with one_line_errors(OSError, ValueError, MemoryError), full, progress() as shown:
        devices.check()
        with argument_errors():
            found = evaluate(
                names,
                path,
                fakes=fakes,
                reals=reals,
                images=min(images, QUICK) if quick else images,
                most_reals=QUICK if quick else IMAGES,
                size=frame,
                window=part,
                seed=seed,
                truncation=truncation,
                inception=weights,
                shown=shown,
            )
    for name, (value, low, high) in found.figures.items():
        typer.echo(f"{name} {value:.6g}  95% {low:.6g} to {high:.6g}, {BEST[name]} is better")
    reals_too = "" if found.reals is None else f" and {found.reals} reals"
    typer.echo(f"of {found.fakes} fakes{reals_too}")
    if file is not None:
        told = {
            "of": str(workdir or model or fakes),
            "reals": reals or "of the run",
            "fakes_count": found.fakes,
            "reals_count": found.reals,
            "size": size,
            "window": window,
            "seed": seed,
            "truncation": truncation,
            "figures": {
                name: {end: _number(value) for end, value in figure._asdict().items()}
                for name, figure in found.figures.items()
            },
        }
        with one_line_errors(OSError):
            places.write_whole(file, (json.dumps(told, indent=2) + "\n").encode())


def _check_writable(file: Path) -> None:
    """Raises ValueError, before the work, where a file cannot be."""
    if file.is_dir():
        raise ValueError(f"{file} is a folder; give the name of a file")
    if not places.is_in_bucket(file) and not os.access(file.parent, os.W_OK):
        raise ValueError(f"{file.parent} is no folder that can be written to")


def _number(value: float) -> float | None:
    """As JSON has it: nothing in the place of infinities."""
    return value if math.isfinite(value) else None
