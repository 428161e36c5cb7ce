"""`creps build`: the data sets of the paper, from what their publishers hand out."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from creps_jax import disk
from creps_jax.options import one_line_errors, option, require_train_extra


def build(
    name: Annotated[
        str, typer.Argument(metavar="NAME/RESOLUTION", help="As ffhq/512 or lsun_church/256.")
    ],
    manual_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the downloaded files lie.")
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the set goes. [default: $TFDS_DATA_DIR, or ~/tensorflow_datasets]",
        ),
    ] = None,
    any_count: Annotated[
        bool, typer.Option("--any-count", help="Make the set of fewer images than are published.")
    ] = False,
) -> None:
    """Prepare one of the paper's data sets as a TFDS set of array_record.

    Files are checked against their publishers' count, and MD5 where there is one. The set is
    complete or absent.

    Example: creps build ffhq/512 --manual-dir=downloads/ffhq
    """
    with one_line_errors(ValueError):
        require_train_extra("imagecodecs")
        from creps_jax.data.containers import tfds_sets

        tfds_sets.require_extra()
        import tensorflow_datasets as tfds

        from creps_jax.data.preparation import builders
        from creps_jax.data.preparation.prepare import locked

    known = {
        f"{builder.name}/{config.name}": (builder, config.name)
        for builder in builders.BUILDERS
        for config in builder.BUILDER_CONFIGS
    }
    with option("NAME/RESOLUTION"):
        if name not in known:
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
    kind, config = known[name]
    with option("--manual-dir"):
        manual_dir = disk.local_path(manual_dir)
        if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
            raise ValueError(
                f"{manual_dir} is no folder, or empty. {kind.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
    with option("--data-dir"):
        place = tfds_sets.data_dir() if data_dir is None else disk.local_path(data_dir)
        tfds_sets.check_path(place)
    builder = kind(config=config, file_format="array_record", data_dir=place.absolute())
    builder.of_any_count = any_count
    typer.echo(f"Licence: {kind.LICENCE}")
    already = " already" if builder.data_path.exists() else ""
    settings = tfds.download.DownloadConfig(manual_dir=manual_dir)
    versions = builder.data_path.parent
    with (
        one_line_errors(OSError, ValueError),
        locked(versions),
        tempfile.TemporaryDirectory() as scratch,
    ):
        for killed in versions.glob("incomplete.*"):
            shutil.rmtree(killed)
        builder.download_and_prepare(download_dir=scratch, download_config=settings)
    source, count = name if data_dir is None else builder.data_path, builder.info.splits["train"]
    typer.echo(
        f"{builder.data_path} is complete{already}, {count.num_examples} images; train with "
        f"--config.data.source=tfds:{source}"
    )
