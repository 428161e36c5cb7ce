"""What the cases of hard_ground need: pictures, archives, runs and machines as people have them.

A `place` makes what a case's folder holds, an `odd` is Python that runs before everything else in
each of its processes, and a `holds` judges what the command has made.
"""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, features

from experiments import kill_hunt

IMAGES = 6  # in the folder set
SIDE = kill_hunt.TINY["resolution"]  # px

Place = Callable[[Path], Any]


def png(number: int, **options: Any) -> bytes:
    """A picture of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", **options)
    return data.getvalue()


def images(folder: Path, count: int = IMAGES) -> Path:
    """The folder set, with the pictures 0, 1, ..."""
    (folder / "set").mkdir(parents=True)
    for i in range(count):
        (folder / "set" / f"{i}.png").write_bytes(png(i))
    return folder / "set"


def with_file(name: str | bytes, data: bytes) -> Place:
    """The folder set with a file more."""

    return lambda folder: (images(folder) / os.fsdecode(name)).write_bytes(data)


def large_picture(folder: Path) -> None:
    """102 megapixels."""
    Image.new("L", (12000, 8500)).save(images(folder) / "large.png")


def many_kinds(folder: Path) -> None:
    """Four pictures of other kinds than cameras make."""
    made = images(folder)
    for suffix in ("ppm", "tga", "jp2", "avif" if features.check("avif") else "pcx"):
        Image.open(io.BytesIO(png(9))).save(made / f"9.{suffix}")


def large_text() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "a church among hills " * 100_000, zip=True)
    return text


def labelled_zip(
    stored: str = "{}.png", listed: str = "{}.png", top: str = "", more: tuple = ()
) -> Place:
    """set.zip of pictures, their names in it and in its dataset.json; a picture's label is i % 2.

    More are (name stored, number) of further pictures, without a word in dataset.json.
    """

    def place(folder: Path) -> None:
        labels = [[listed.format(i), i % 2] for i in range(IMAGES)]
        with zipfile.ZipFile(folder / "set.zip", "w") as file:
            for name, i in [*((stored.format(i), i) for i in range(IMAGES)), *more]:
                file.writestr(name, png(i))
            file.writestr(f"{top}dataset.json", json.dumps({"labels": labels}))

    return place


def labels_are_right(folder: Path, code: int) -> bool:
    """Refused, or out.zip holds all the pictures with their labels."""
    if code:
        return not (folder / "out.zip").exists()
    with zipfile.ZipFile(folder / "out.zip") as file:
        labels = dict(json.loads(file.read("dataset.json"))["labels"] or [])
        found = {file.read(name): labels.get(name) for name in file.namelist() if "img" in name}
    return found == {png(i): i % 2 for i in range(IMAGES)}


def run_with(change: Place) -> Place:
    """The folder run, a copy of $RUN that is changed."""

    def place(folder: Path) -> None:
        shutil.copytree(folder.parent / "run", folder / "run")
        change(folder / "run" / "checkpoints")

    return place


def flip(checkpoints: Path) -> None:
    """Damages the newest checkpoint: every byte of the average's largest file."""
    file = max((checkpoints / "4/ema").rglob("*"), key=lambda path: path.stat().st_size)
    file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))


def notes(checkpoints: Path) -> None:
    """What people and their file managers leave."""
    for name in ("note.txt", "Thumbs.db", "ema/note (1).txt"):
        (checkpoints / "4" / name).write_text("the best so far")


def written(name: str, text: str) -> Place:
    return lambda folder: (folder / name).write_text(text)


def same_picture(folder: Path, code: int) -> bool:
    """Refused, or out.png is the picture that is painted without odd settings."""
    if code:
        return not (folder / "out.png").exists()
    with Image.open(folder / "out.png") as ours, Image.open(folder.parent / "plain.png") as plain:
        return ours.tobytes() == plain.tobytes()


def same_run(folder: Path, code: int) -> bool:
    """Refused, or the run ends with the arrays of $RUN, which was never stopped."""
    return code != 0 or kill_hunt.same(folder / "run", folder.parent / "run")


def no_home_made(folder: Path, code: int) -> bool:
    return not [path for path in folder.iterdir() if path.name.startswith("~")]


# What the machine does otherwise.


def failing_open(when: str, then: str) -> str:
    """Opening the file `path` does something if a condition holds; `opened` are those before."""
    return f"""
import os, shutil, sys
opened = []
def watch(event, arguments):
    if event == 'open' and isinstance(arguments[0], (str, os.PathLike)):
        path = str(arguments[0])
        if {when}:
            opened.append(path)
            {then}
sys.addaudithook(watch)
"""


IO_ERROR = "raise OSError(5, 'Input/output error', path)"
NO_LOCKS = """
import sys
def watch(event, arguments):
    if event in ('fcntl.flock', 'fcntl.lockf'):
        raise OSError(38, 'Function not implemented')
sys.addaudithook(watch)
"""


def failing_sync(folders_only: bool, number: int, text: str) -> str:
    return f"""
import os, stat
sync = os.fsync
def fsync(file):
    number = file if isinstance(file, int) else file.fileno()
    if stat.S_ISDIR(os.fstat(number).st_mode) or not {folders_only}:
        raise OSError({number}, {text!r})
    sync(file)
os.fsync = fsync
"""


def missing(package: str) -> str:
    return f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == {package!r}:
            raise ModuleNotFoundError("No module named {package!r}", name={package!r})
sys.meta_path.insert(0, Missing())
"""
