"""`creps average`: averages of other lengths of a run's generator, as checkpoints."""

from typing import Annotated

import typer

from creps_jax import places
from creps_jax.options import check_range, one_line_errors, option, require_train_extra
from creps_jax.progress import progress

TOLD_MISFIT = 0.05  # of an average's profile; a smaller one is not worth a line


def average(
    workdir: Annotated[
        str, typer.Option(metavar="DIR", help="Workdir of a run with recipe.power_averages=True.")
    ],
    sigma: Annotated[
        str,
        typer.Option(
            metavar="SIGMA,...",
            help="Length: the standard deviation of the steps that count, as a share of all; "
            "0.02 to 0.25. Or several: .02,.05,.1",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="A folder for the checkpoint; also gs://... Of several, DIR/SIGMA for each.",
        ),
    ],
    metrics: Annotated[
        str | None,
        typer.Option(help="Figures to compare them by: fd_lite,kd_lite, ... [default: none]"),
    ] = None,
    images: Annotated[int, typer.Option(help="Fakes, and reals at most, of these figures.")] = 2000,
) -> None:
    """Make checkpoints of averages over the training, of any length, and compare them.

    Training keeps two averages that weigh steps by a power of their number, and snapshots of them
    at each evaluation; sums of these are the averages of other lengths. The same command goes on
    with the averages that are missing; figures are told of all.

    Example: creps average --workdir=runs/scenes --sigma=.05,.1,.2 --metrics=fd_lite --out=runs/of
    """
    with option("--workdir"):
        folder = places.path(workdir)
        require_train_extra("grain")
    with option("--sigma"):
        lengths = _parse_lengths(sigma)
    with option("--out"):
        target = places.path(out)
    with option("--images"):
        check_range(images, 2, 10**7)

    from creps_jax import devices
    from creps_jax.evaluation.evaluating import evaluate
    from creps_jax.evaluation.metrics import parse
    from creps_jax.training import averages, snapshots

    devices.cache_compilations()
    with option("--metrics"):
        names = parse(metrics) if metrics else ()
    with option("--sigma"):
        for length in lengths:
            averages.exponent(length)
    full = devices.memory_errors(devices.FOR_PAINTING)
    with one_line_errors(OSError, ValueError, MemoryError), full:
        for length in lengths:
            there = target if len(lengths) == 1 else target / f"{length:g}"
            step, misfit = snapshots.average(folder, length, there)
            typer.echo(f"{there} is complete, of steps up to {step}")
            if misfit > TOLD_MISFIT:
                typer.echo(
                    f"Its profile is {misfit:.0%} off that of sigma={length:g}: there are too few "
                    "snapshots for it."
                )
            if not names:
                continue
            with progress() as shown:
                found = evaluate(names, there, images=images, most_reals=images, shown=shown)
            for name, (value, low, high) in found.figures.items():
                typer.echo(f"{length:g}  {name} {value:.6g}  95% {low:.6g} to {high:.6g}")


def _parse_lengths(text: str) -> list[float]:
    """'.02,.05' -> [0.02, 0.05], each once.

    Raises:
      ValueError: names the text and what is expected.
    """
    try:
        return list(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError as error:
        raise ValueError(f"expected lengths as .05 or .02,.05,.1, got {text!r}") from error
