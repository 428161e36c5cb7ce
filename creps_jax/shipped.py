"""The networks that come with the program: files of weights, each with its card beside it."""

import os
from pathlib import Path

from creps_jax import disk

FOLDER = Path(__file__).parent / "networks"


def names() -> list[str]:
    """What they are called."""
    return sorted(file.stem for file in FOLDER.glob("*.safetensors"))


def find(model: str | os.PathLike) -> Path:
    """The file of a network that comes with the program, given its name; or any other file.

    Raises:
      ValueError: it is neither.
    """
    if model in names():
        return FOLDER / f"{model}.safetensors"
    path = disk.local_path(model)
    if not path.is_file():
        raise ValueError(
            f"{model} is no file of weights, and no network that comes with the program: "
            f"{', '.join(names())}"
        )
    return path
