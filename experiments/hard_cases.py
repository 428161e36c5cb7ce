"""The cases of hard_ground: a shell line each, what it needs, and what is right."""

import dataclasses
import math
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from experiments.hard_inputs import (
    IMAGES,
    IO_ERROR,
    NO_LOCKS,
    Place,
    failing_open,
    failing_sync,
    flip,
    images,
    labelled_zip,
    labels_are_right,
    large_picture,
    large_text,
    many_kinds,
    missing,
    no_home_made,
    notes,
    png,
    run_with,
    same_picture,
    same_run,
    with_file,
    written,
)

STEPS = 2  # of train; the run in $RUN is twice as long, with checkpoints 0, 2 and 4


@dataclasses.dataclass(frozen=True)
class Case:
    """What is tried, and what is right."""

    kind: str  # of fault: wrong without a word, work lost or refused, slow, for people
    name: str
    command: str  # of bash
    expected: str  # in words
    codes: tuple[int, ...] = (0,)  # exit codes that are right
    says: str = ""  # regular expression that the output, its blanks made one, matches
    within_sec: float = math.inf
    odd: str = ""  # Python that runs before everything in every process of the case
    place: Place = lambda folder: None  # makes what the command needs
    holds: Callable[[Path, int], bool] = lambda folder, code: True  # of what it made


# Commands that occur again and again.
PICTURE = "creps render --workdir=$RUN --seeds=3 --size=16 --out="
SET = "creps dataset --source=set --size=8 --processes=1 --out=out.zip"
LABELLED = "creps dataset --source=set.zip --size=8 --processes=1 --out=out.zip"
TRAIN = "train --workdir=run"
RUN = f"{TRAIN} --config.total_kimg=.016"
FOLDER = f"{TRAIN} --config.data.source=folder:set"
VIDEO = "creps video --workdir=$RUN --seconds=.5 --fps=10 --size=16"
PAINTER = "import os, pickle, creps_jax\npainter = creps_jax.load(os.environ['RUN'])\n"
ALL_KEPT = f"Kept {IMAGES + 1} of {IMAGES + 1} images"

WRONG, LOST, SLOW, PEOPLE = "wrong without a word", "lost or refused", "slow", "for people"
REFUSED = (1, 2)

SETTINGS = (
    "JAX_DEFAULT_PRNG_IMPL=rbg",
    "JAX_THREEFRY_PARTITIONABLE=0",
    "JAX_ENABLE_X64=1",
    "JAX_RANDOM_SEED_OFFSET=7",
    "JAX_NUMPY_DTYPE_PROMOTION=strict",
    "JAX_NUMPY_RANK_PROMOTION=raise",
    "JAX_DEFAULT_MATMUL_PRECISION=bfloat16",
)

CASES: list[Case] = []


def cases(kind: str, *rows: tuple, **common: Any) -> None:
    """Adds cases: (name, command, expected) and what differs from `common` in each."""
    for name, command, expected, *own in rows:
        CASES.append(Case(kind, name, command, expected, **(common | (own[0] if own else {}))))


# In the tables a case stays together.
# fmt: off

# A. Wrong results without a word.

cases(
    WRONG,
    *((f"render under {s}", f"{s} {PICTURE}out.png", "same picture, or refused") for s in SETTINGS),
    codes=(0, *REFUSED),
    holds=same_picture,
)
cases(
    WRONG,
    *(
        (f"continue under {s}", f"{s} {RUN}", "same arrays, or refused")
        for s in ("JAX_DEFAULT_PRNG_IMPL=rbg", "JAX_ENABLE_X64=1")
    ),
    codes=(0, 1),
    place=run_with(lambda checkpoints: shutil.rmtree(checkpoints / "4")),
    holds=same_run,
)
ZIPS = {
    "backslashes in the zip": labelled_zip("a\\{}.png", "a/{}.png"),
    "backslashes in dataset.json": labelled_zip("a/{}.png", "a\\{}.png"),
    "a top folder around all": labelled_zip("top/{}.png", "{}.png", "top/"),
    "./ before the names": labelled_zip("{}.png", "./{}.png"),
    "what macOS adds": labelled_zip(more=(("__MACOSX/._0.png", 0),)),
    "decomposed letters": labelled_zip("é{}.png", unicodedata.normalize("NFD", "é{}.png")),
    "a name stored twice": labelled_zip(more=(("0.png", 9),)),
    "a name listed twice": labelled_zip(listed="0.png"),
}
cases(
    WRONG,
    *(
        (f"labels: {name}", LABELLED, "all labels, or refused by name", {"place": place})
        for name, place in ZIPS.items()
    ),
    codes=(0, *REFUSED),
    says=r"Kept 6 of|\.png",
    holds=labels_are_right,
)
MANY_BAD = f"{FOLDER} --config.data.max_unreadable=.5"
cases(
    WRONG,
    ("an image that cannot be read once", FOLDER, "read again; all 6 images", {"says": "6 images",
     "odd": failing_open("path.endswith('set/5.png') and not opened", IO_ERROR)}),
    ("an image that the disk cannot read, then can", f"{MANY_BAD}; rm odd/*; {MANY_BAD}",
     "first an error that names it, then all 6 images", {"says": r"Error: .*5\.png.* 6 images",
     "odd": failing_open("path.endswith('set/5.png')", IO_ERROR)}),
    place=images,
)
TWO_SETS = """
PORT=$(python -c 'import socket; print(socket.create_server(("", 0)).getsockname()[1])')
for i in 0 1; do (
  cd $i; NPROC=8 train --workdir=../run --config.data.source=folder:set --wait_sec=40 \\
    --coordinator=127.0.0.1:$PORT --processes=2 --process=$i; echo $? > code) & done
wait; grep -qx 1 ?/code
"""
FLOAT_LAYER = """
plain = painter.render(seed=3)
try:
    print('right' if (painter.render(seed=3, styles={1.0: 5}) != plain).any() else 'ignored')
except ValueError:
    print('right')
"""
cases(
    WRONG,
    ("two processes whose sets differ", TWO_SETS, "an error, code 1", {
     "says": "Error: .*(images|set)",
     "place": lambda f: (images(f / "0"), images(f / "1", IMAGES - 1), (f / "run").mkdir())}),
    ("a workdir in a bucket of S3", "train --workdir=s3://nobody/run", "refused; no such folder",
     {"codes": (1,), "says": "s3:", "holds": lambda folder, _: not (folder / "s3:").exists()}),
    ("a walk there and back", f"{VIDEO} --seeds=0,5,0 --out=a.webp && "
     f"{VIDEO} --seeds=0,5 --out=b.webp && ! cmp -s a.webp b.webp", "a walk of three"),
    ("a grid of one seed", f"{VIDEO} --seeds=3,3 --grid=1x2 --out=a.webp", "both cells"),
    ("a WebP that browsers slow down", f"{VIDEO} --seeds=3 --fps=100 --out=a.webp", "refused",
     {"codes": REFUSED, "says": "fps"}),
    ("a truncation beyond float32", f"{PICTURE}out.png --truncation=1e39", "refused",
     {"codes": REFUSED, "says": "truncation"}),
    ("a layer as a float", "python case.py", "ValueError, or that layer",
     {"says": "right", "place": written("case.py", PAINTER + FLOAT_LAYER)}),
)

# B. Work lost, or refused without need.

COPY = PICTURE.replace("$RUN", "run") + "out.png"
cases(
    LOST,
    ("random crops of images of several sizes", f"{FOLDER} --config.data.random_crop=True",
     "trains", {"place": lambda f: Image.new("RGB", (20, 12)).save(images(f) / "9.png")}),
    ("notes in a checkpoint, render", COPY, "the same picture",
     {"place": run_with(notes), "holds": same_picture}),
    ("notes in a checkpoint, train", f"{TRAIN} --config.total_kimg=.02", "continues from step 4",
     {"place": run_with(notes), "says": "from step 4"}),
    ("a checkpoint that is altered", COPY, "a warning, and the one before",
     {"place": run_with(flip), "says": "damaged"}),
    ("a checkpoint that goes away while it is read", COPY, "another one",
     {"place": run_with(lambda checkpoints: None),
     "odd": failing_open("'checkpoints/4/' in path and len(opened) < 3",
     "len(opened) == 3 and shutil.rmtree('run/checkpoints/4')")}),
    ("all checkpoints go away while one is read", COPY, "one clear line", {"codes": (1,),
     "says": r"Error: (?!\[Errno).*checkpoint", "place": run_with(lambda checkpoints: None),
     "odd": failing_open("'checkpoints/4/' in path and not opened",
     "[shutil.rmtree(f'run/checkpoints/{i}') for i in (0, 2, 4)]")}),
)
NEEDS_SET = {"place": images}
cases(
    LOST,
    ("train | head -1", f"{TRAIN} 2>&1 | head -1; test -d run/checkpoints/2", "trains to its end"),
    ("train > /dev/full", f"{TRAIN} > /dev/full 2>&1", "trains to its end"),
    ("train with its outputs closed", f"{TRAIN} >&- 2>&-", "trains to its end"),
    ("render > /dev/full", f"{PICTURE}out.png > /dev/full", "paints", {"holds": same_picture}),
    ("render closed", f"{PICTURE}out.png >&- 2>&-", "paints", {"holds": same_picture}),
    ("dataset | head -0", f"{SET} 2>&1 | head -c 0; test -f out.zip", "makes the set", NEEDS_SET),
    ("dataset > /dev/full", f"{SET} > /dev/full 2>&1", "makes the set", NEEDS_SET),
    ("a terminal that is closed: SIGHUP", f"{TRAIN} --config.total_kimg=1000 & "
     "until [ -s run/metrics.jsonl ]; do sleep .1; done; kill -HUP $!; wait $!",
     "saves and ends with 75", {"codes": (75,)}),
)
cases(
    LOST,
    ("a full disk, train", "disk 400k train --workdir=small/run", "one line with the path"),
    ("a full disk, render",
     "disk 24k creps render --workdir=$RUN --seeds=3 --size=512 --out=small/out.tif",
     "one line with the path"),
    ("a full disk, dataset", f"disk 4k {SET.replace('out.zip', 'small/out.zip')}",
     "one line with the path", NEEDS_SET),
    codes=REFUSED,
    says=r"Error: .*(small.*([Nn]o space|full|free)|([Nn]o space|full|free).*small)",
)
cases(
    LOST,
    ("a read-only disk, train", "rodisk train --workdir=small/run", "one line with the path"),
    ("a read-only disk, render", f"rodisk {PICTURE}small/out.png", "one line with the path"),
    ("a read-only disk, dataset", f"rodisk {SET.replace('out.zip', 'small/out.zip')}",
     "one line with the path", NEEDS_SET),
    ("somebody else's folder", "mkdir -m 755 run && nobody train --workdir=run",
     "one line with the path", {"says": "Error: .*denied.*run"}),
    codes=REFUSED,
    says=r"Error: .*(small.*Read-only|Read-only.*small)",
)
cases(
    LOST,
    ("a small /dev/shm with workers", f"shm 64k {FOLDER} --config.data.workers=2",
     "trains, or one line that names it", {"says": r"Finished|Error: .*shm", **NEEDS_SET}),
    ("a GPU that is not there, train", f"JAX_PLATFORMS=cuda {TRAIN}", "one line",
     {"codes": (1,), "says": "Error: .*(JAX_PLATFORMS|cuda)"}),
    ("a GPU that is not there, render", f"JAX_PLATFORMS=cuda {PICTURE}out.png", "one line",
     {"codes": (1,), "says": "Error: .*(JAX_PLATFORMS|cuda)"}),
    ("no folder for temporary files", f"TMPDIR=/none {SET}", "makes the set", NEEDS_SET),
    codes=(0, 1),
)
NO_SYNC = failing_sync(True, 22, "Invalid argument")
cases(
    LOST,
    ("no locks, train", TRAIN, "one warning", {"odd": NO_LOCKS, "says": "without locks"}),
    ("no locks, dataset", SET, "one warning", {"odd": NO_LOCKS, "says": "without locks"}),
    ("no locks, render", f"{PICTURE}out.png", "paints", {"odd": NO_LOCKS, "holds": same_picture}),
    ("no syncing of folders, train", TRAIN, "one warning", {"odd": NO_SYNC, "says": "cannot sync"}),
    ("no syncing of folders, dataset", SET, "one warning", {"odd": NO_SYNC, "says": "cannot sync"}),
    ("a disk that fails, dataset", SET, "one line with the path",
     {"odd": failing_sync(False, 5, "Input/output error"), "codes": (1,),
     "says": r"Error: .*Input/output error.*\w/"}),
    place=images,
)
PROFILE = b"\0" * 1_500_000
cases(
    LOST,
    *(
        (f"a picture with {name}", SET, "kept", {"place": place})
        for name, place in (
            ("odd EXIF", with_file("9.png", png(9, exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff"))),
            ("2 MB of text", with_file("9.png", png(9, pnginfo=large_text()))),
            ("an ICC profile of 1.5 MB", with_file("9.png", png(9, icc_profile=PROFILE))),
            ("a name that is no UTF-8", with_file(b"caf\xe9.png", png(9))),
        )
    ),
    says=ALL_KEPT,
)
cases(
    LOST,
    ("a picture of 102 megapixels", SET, "kept, or an option admits it",
     {"place": large_picture, "says": rf"{ALL_KEPT}|pixels.*--(?!config)\w+"}),
    ("pictures of other kinds", SET, "all 10 kept", {"place": many_kinds, "says": "Kept 10 of 10"}),
    ("names in ASCII only", f"LC_ALL=C PYTHONIOENCODING=ascii {SET}", "kept",
     {"place": with_file("é.png", png(9)), "says": ALL_KEPT}),
    ("a workdir that is no UTF-8", "train --workdir=$'caf\\xe9'", "trains, or refused",
     {"codes": (0, 1)}),
    ("an output that is no UTF-8", f"{PICTURE}$'caf\\xe9.png'", "paints, or refused",
     {"codes": (0, *REFUSED)}),
    ("nobody renders", f"nobody env -u JAX_COMPILATION_CACHE_DIR {PICTURE}out.png", "paints",
     {"holds": same_picture}),
    ("nobody trains", f"nobody {TRAIN}", "trains", {"says": "Finished"}),
    ("nobody makes a set", f"nobody {SET}", "makes the set", NEEDS_SET),
)
cases(
    LOST,
    ("nobody's home", f"nobody {PICTURE}'~/out.png'", "one line"),
    ("a home that is not there, train", "train --workdir='~nobody_here/run'", "one line"),
    ("a home that is not there, render", f"{PICTURE}'~nobody_here/out.png'", "one line"),
    ("a home that is not there, dataset", SET.replace("=set", "='~nobody_here'"), "one line"),
    codes=REFUSED,
    says="Error.*~",
    holds=no_home_made,
)
FORKED = """
if os.fork():
    print('the child ended with', os.waitstatus_to_exitcode(os.wait()[1]))
else:
    try:
        painter.render(seed=3)
    except (RuntimeError, ValueError) as error:
        print('Error:', error, flush=True)
    os._exit(0)
"""
cases(
    LOST,
    ("one core of several", "taskset -c 0 creps dataset --help", "one process by default",
     {"says": r"--processes.{0,90}default: 1\]"}),
    ("a warp of two numbers", "python case.py", "paints", {"place": written("case.py",
     f"{PAINTER}painter.render(seed=3, size=16, warp=lambda h, w, size: (8, 8.5))")}),
    ("a painter is pickled", "python case.py", "the same pixels", {"says": "True",
     "place": written("case.py", f"{PAINTER}other = pickle.loads(pickle.dumps(painter))\n"
     "print((other.render(seed=3) == painter.render(seed=3)).all())")}),
    ("a painter after a fork", "python case.py", "an error, no hanging",
     {"says": "Error: .*fork", "place": written("case.py", PAINTER + FORKED)}),
    ("an angle beyond float64",
     f"{VIDEO} --seeds=3 --out=a.webp --camera='.5,.5,1,1.5e308; .5,.5,1,-1.5e308'", "refused",
     {"codes": REFUSED}),
    ("a video without PyAV", f"{VIDEO} --seeds=3 --out=a.mp4", "one line, at once",
     {"odd": missing("av"), "codes": REFUSED, "says": "Error: .*PyAV"}),
    ("a benchmark without matplotlib", "python -m experiments.render_benchmark --out=out",
     "one line, at once",
     {"odd": missing("matplotlib"), "codes": REFUSED, "says": "matplotlib", "within_sec": 20}),
)

# C. Slow where nobody looked.

HUGE = "timeout -s KILL 20 creps render --workdir=$RUN --seeds=3 --size=1048576 --out=out.zarr"
COUNT = "find . -path '*out.zarr*' -type f | wc -l"
cases(
    SLOW,
    ("2^20 px squared, killed and continued", f"for i in 1 2; do {HUGE}; {COUNT} >> counts; done; "
     "{ read a; read b; } < counts; echo $a, then $b files; [ $a -gt 20 ] && [ $b -gt $a ]",
     "tiles within 20 s, then more"),
    ("1 x 1,000,000 px", "creps render --workdir=$RUN --seeds=3 --size=1x1000000 --out=out.tif",
     "within 20 s", {"within_sec": 20}),
    ("2000 tiny images", "creps render --workdir=$RUN --seeds=0-1999 --size=8 --out=out",
     "within 30 s", {"within_sec": 30}),
    ("the first line is ours", TRAIN, "no log of TensorFlow before", {"says": "^Device"}),
)

# D. Read by people.

cases(
    PEOPLE,
    ("creps -h", "creps -h", "help", {"says": "Usage"}),
    ("python -m creps_jax.main --help", "python -m creps_jax.main --help", "help",
     {"says": "--workdir"}),
)
