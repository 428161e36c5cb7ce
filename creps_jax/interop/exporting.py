"""A checkpoint's networks for other programs, with a card."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from creps_jax import places, rng
from creps_jax.arguments import about
from creps_jax.checkpoint import Saved, load_networks
from creps_jax.config import GeneratorConfig, parse_saved
from creps_jax.interop import cards, stablehlo, state_dicts
from creps_jax.model.generator import Generator
from creps_jax.rendering.painter import Painter

FORMATS = ("safetensors", "npz", "stablehlo")
PICTURES = 2, 4  # rows and columns of the card's picture


@rng.pinned()
def export_networks(
    workdir: Path, to: str, path: Path, networks: Sequence[str] | None = None
) -> list[Path]:
    """Writes the newest checkpoint's networks and a card beside them.

    Args:
      workdir: as checkpoint.load_networks takes it.
      to: 'safetensors' or 'npz', of G, D and G_ema under their official names, to a file; or
        'stablehlo', programs of G_ema, into a folder.
      path: of the file, which ends as the format is called; or of the folder.
      networks: those that the file will have; None: all that the checkpoint has.

    Returns the exported files and the card; each is there whole or not at all.

    Raises:
      FileNotFoundError, ValueError: as checkpoint.load_networks. Or the format is none of these, or
        a network is not there.
      OSError: the disk fails.
    """
    if to not in FORMATS:
        raise ValueError(f"to={to!r} must be one of {', '.join(FORMATS)}")
    with about("networks"):
        if to == "stablehlo" and networks is not None:
            raise ValueError(f"networks={networks!r} is of files; the programs are of G_ema")
    if to != "stablehlo" and path.suffix != f".{to}":
        raise ValueError(f"path={str(path)!r} must end with .{to}, as demo.{to} does")
    return write(load_networks(workdir), to, path, networks)


def write(saved: Saved, to: str, path: Path, networks: Sequence[str] | None = None) -> list[Path]:
    """The same of networks in memory."""
    generator, ema = Generator(parse_saved(saved.config).generator), saved.networks["G_ema"]
    if to == "stablehlo":
        path.mkdir(parents=True, exist_ok=True)
        programs = stablehlo.programs(generator, ema)
        folder, name = path, path.name
        files = [path / f"{program}.stablehlo" for program in programs]
        for file, program in zip(files, programs.values(), strict=True):
            places.write_whole(file, program)
    else:
        saved = _only(saved, networks)
        path.parent.mkdir(parents=True, exist_ok=True)
        state_dicts.write(path, saved.networks, saved.config)
        folder, name, files = path.parent, path.name, [path]
    picture = _picture(Painter(generator, ema), generator.config)
    cards.write(folder, name, saved, [file.name for file in files], picture)
    return [*files, *(folder / f"{name}.{kind}" for kind in ("md", "json", "png"))]


def _only(saved: Saved, networks: Sequence[str] | None) -> Saved:
    """With these of its networks alone; None: with all."""
    with about("networks"):
        for name in networks or ():
            if name not in saved.networks:
                raise ValueError(f"{name!r} is not there, but {', '.join(saved.networks)}")
    return saved._replace(
        networks={name: saved.networks[name] for name in networks or saved.networks}
    )


def _picture(painter: Painter, config: GeneratorConfig) -> np.ndarray:
    """Images of the first seeds, of the training size, with truncation: uint8."""
    rows, columns = PICTURES
    images = [
        painter.render(
            seed=i, label=i % config.num_classes if config.num_classes else None, truncation=0.7
        )
        for i in range(rows * columns)
    ]
    return np.vstack([np.hstack(images[i * columns : (i + 1) * columns]) for i in range(rows)])
