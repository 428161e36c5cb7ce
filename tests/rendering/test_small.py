"""Small pictures, painted and written many at a time, are those painted and written alone."""

import contextlib

import jax
import numpy as np
import pytest

from creps_jax.progress import Progress
from creps_jax.rendering import saving
from creps_jax.rendering.files.output import is_finished
from creps_jax.rendering.painter import Painter
from tests.helpers.commands import names
from tests.helpers.generators import TILE, make_generator

SEEDS = [5, 0, 2**32 - 1, *range(100, 108)]  # More than are painted at a time.
PLANS = [
    {},
    {"size": 5},  # Supersampled.
    {"size": TILE, "sampling": "endpoints"},
    {"size": (31, 40), "supersample": 3},
    {"size": (600, 300), "window": (3 * TILE + 1, TILE + 3, 3 * TILE + 60, TILE + 9)},
    {"size": 16, "warp": lambda h, w, size: (2 * h, w / 2)},
]
NOT_SMALL = [
    {"size": (8, TILE + 1)},
    {"size": TILE, "supersample": 2},
    {"size": 300, "window": (TILE - 1, 0, TILE + 1, 1)},
    {"size": 16, "warp": "rotate:30"},
]


@pytest.fixture(scope="module")
def model():
    return make_generator(num_classes=3)


@pytest.fixture(scope="module")
def painter(model):
    return Painter(*model, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def ws(painter):
    return painter.latents_of(SEEDS, label=1)


@pytest.fixture(scope="module")
def alone(painter, ws):
    """Of each plan, each picture as a large one is painted: lines, then tiles, of one image."""
    images = [painter.image(one) for one in ws]

    def paint(plan):
        return [
            dict(painter.paint(i, plan, [plan.window], np.float32))[plan.window] for i in images
        ]

    return [paint(painter.plan(**options)) for options in PLANS]


@pytest.mark.parametrize(
    "options",
    [
        {"label": 2, "truncation": 0.7},
        {"label": 0, "truncation": 0.5, "cutoff": 2, "styles": {1: 100, 4: 9}},
    ],
)
def test_latents_of_many_are_those_of_each(painter, options):
    many = painter.latents_of(SEEDS, **options)
    for some in (SEEDS[:1], SEEDS[3:5], SEEDS[::-1]):
        each = [painter.latents(seed, **options) for seed in some]
        np.testing.assert_array_equal(painter.latents_of(some, **options), each)
        np.testing.assert_array_equal(many[[SEEDS.index(seed) for seed in some]], each)


def test_styles_are_the_latents_of_other_seeds_in_their_layers_alone(painter):
    styles, others = {1: 100, 4: 9, 2: 100}, {"label": 0, "truncation": 0.5, "cutoff": 2}
    expected = painter.latents_of(SEEDS, **others)
    for layer, seed in styles.items():
        expected[:, layer] = painter.latents(seed, **others)[layer]
    np.testing.assert_array_equal(painter.latents_of(SEEDS, styles=styles, **others), expected)


def test_a_stream_of_a_small_picture_can_be_closed_as_any_other(painter):
    with contextlib.closing(painter.stream(0, label=1, size=8)) as parts:
        ((window, pixels),) = parts
    assert window == (0, 0, 8, 8) and pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("count", [1, 3])
def test_many_pictures_are_those_painted_alone_bit_for_bit(model, ws, alone, count):
    painter = Painter(*model, devices=jax.devices()[:count])
    for options, expected in zip(PLANS, alone, strict=True):
        plan = painter.plan(**options)
        assert painter.is_small(plan)
        for some in (slice(2, 3), slice(None, None, 4), slice(None, None, -1)):
            pictures = list(painter.pictures(ws[some], plan, np.float32))
            np.testing.assert_array_equal(pictures, expected[some])


@pytest.mark.parametrize("options", NOT_SMALL)
def test_a_picture_of_several_tiles_or_of_tables_is_not_small(painter, options):
    assert not painter.is_small(painter.plan(**options))


class Files:
    """The files of seeds in a folder, written together."""

    def __init__(self, painter, folder, size=8):
        self.painter, self.folder, self.plan = painter, folder, painter.plan(size)
        self.notes = []

    def path(self, seed):
        return f"{self.folder}/seed{seed}.png"

    def save(self, seeds, latents=None):
        latents = latents or (lambda some: self.painter.latents_of(some, label=1))
        work = [(seed, self.path(seed)) for seed in seeds]
        note = self.notes.append
        assert saving.save_each(
            self.painter, work, latents, self.plan, (0, 1), Progress(None), note
        )

    def read(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def files(painter, tmp_path):
    return Files(painter, tmp_path / "out")


@pytest.fixture(scope="module")
def written(painter, tmp_path_factory):
    """What each file holds that is written alone."""
    files = Files(painter, tmp_path_factory.mktemp("alone"))
    for seed in range(20):
        painter.save(files.path(seed), seed, label=1, size=8)
    return files.read()


def test_files_are_those_written_alone_in_whatever_order(files, written):
    files.save(range(19, 9, -1))
    files.save(range(20))
    assert files.read() == written
    assert files.notes == [f"{files.path(seed)} is complete already" for seed in range(10, 20)]


def test_what_is_stopped_leaves_whole_files_and_is_continued(files, written):
    def stopped(some):
        if 16 in some:
            raise KeyboardInterrupt
        return files.painter.latents_of(some, label=1)

    with pytest.raises(KeyboardInterrupt):
        files.save(range(20), stopped)
    before = files.read()
    assert before and before.items() < written.items()
    times = {path: path.stat().st_mtime_ns for path in files.folder.iterdir()}
    files.save(range(20))
    assert files.read() == written
    assert times.items() < {p: p.stat().st_mtime_ns for p in files.folder.iterdir()}.items()
    assert len(files.notes) == len(before)


def test_other_files_are_replaced_and_what_a_killed_run_left_is_tidied_up(files, written):
    files.folder.mkdir()
    for seed in (0, 1, 2):
        (files.folder / f"seed{seed}.png").write_bytes(b"another picture")
    for seed in (1, 2, 3):
        (files.folder / f"seed{seed}.png.partial").mkdir()
    (files.folder / "seed2.png").write_bytes(written["seed2.png"])
    files.save(range(20))
    assert names(files.folder) == sorted(written) and files.read() == written


def test_a_colour_that_is_no_number_is_told_of_its_picture_and_those_before_are_there(files):
    def large(some):
        ws = files.painter.latents_of(some, label=1)
        ws[[seed == 9 for seed in some]] = 1e38
        return ws

    with pytest.raises(ValueError) as alone:
        files.painter.save(files.path(9), ws=large([9])[0], size=8)
    with pytest.raises(ValueError) as together:
        files.save(range(20), large)
    assert "y0,x0,y1,x1 = 0,0,8,8 exceed float32" in str(alone.value)
    assert str(together.value) == f"{files.path(9)}: {alone.value}"
    there = set(names(files.folder))
    assert {f"seed{seed}.png" for seed in range(9)} <= there and "seed9.png" not in there
    assert not is_finished(files.path(9), "")
