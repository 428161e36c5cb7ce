"""Sets of images and their features: the same on any devices, kept, and counted once."""

import json
import os
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from creps_jax import sharding
from creps_jax.config import DataConfig
from creps_jax.data.hosts import ALONE
from creps_jax.data.sources import open_source
from creps_jax.evaluation import extraction, metrics
from creps_jax.evaluation.extraction import features_of, kept_in
from creps_jax.evaluation.networks import Network, resize
from creps_jax.evaluation.sets import Crop, Fakes, Reals
from creps_jax.progress import Progress, Silent
from creps_jax.rendering.painter import Painter
from tests.helpers.generators import make_generator

SIDE = 16
WHOLE = Crop((SIDE, SIDE), (SIDE, SIDE), 0)
DATA = DataConfig((SIDE, SIDE), 3, 0, source="procedural:50", threads=2)


def see(variables, images):
    means = images.astype(jnp.float32).mean(axis=(1, 2))
    return {"features": jnp.dot(means, variables, precision="highest")}


NETWORK = Network("means", see, np.arange(12, dtype=np.float32).reshape(3, 4))


class Counted(Progress):
    """Counts what it is told."""

    def __init__(self):
        super().__init__(None)
        self.count = 0

    def advance(self, units, pixels=0):
        self.count += units


@pytest.fixture(scope="module")
def network():
    return make_generator(3)


def fakes_of(network, crop=WHOLE, count=20, devices=1, **options):
    options.setdefault("label_shares", (0.2, 0.8, 0.0))
    return Fakes(*network, mesh_of(devices), crop, count, **options)


def mesh_of(devices):
    return sharding.make_mesh(jax.devices()[:devices])


def label(fakes, index):
    return fakes._label(index, fakes._shares)


# Fakes.


@pytest.mark.parametrize("sides", [(16, 16), (40, 24), (12, 9)])
def test_fakes_are_what_is_rendered_of_the_same_seeds(network, sides):
    """Of any size, also below the training images', of several samples a pixel."""
    fakes = fakes_of(network, Crop(sides, sides, 7))
    painter = Painter(*network)
    for i in (0, 3):
        expected = painter.render(7 + i, size=sides, label=label(fakes, i)).astype(int)
        found = fakes.images(i, i + 2)[0].astype(int)
        assert np.abs(found - expected).max() <= 1 and (found == expected).mean() > 0.99


def test_after_the_largest_seed_comes_the_first(network):
    last = fakes_of(network, WHOLE._replace(seed=2**32 - 1), label_shares=(1.0, 0.0, 0.0))
    first = fakes_of(network, label_shares=(1.0, 0.0, 0.0))
    np.testing.assert_array_equal(last.images(1, 3), first.images(0, 2))


def test_windows_of_fakes_are_parts_of_the_frame_each_elsewhere(network):
    crop = Crop((48, 40), (16, 12), 3)
    fakes, painter = fakes_of(network, crop), Painter(*network)
    corners = {crop.corner(i) for i in range(20)}
    assert len(corners) > 15
    assert max(y for y, _ in corners) <= 32 and max(x for _, x in corners) <= 28
    whole = painter.render(3 + 4, size=(48, 40), label=label(fakes, 4))
    (y, x), found = crop.corner(4), fakes.images(4, 5)[0]
    assert np.abs(found.astype(int) - whole[y : y + 16, x : x + 12]).max() <= 1


def test_classes_are_as_frequent_as_the_shares_say(network):
    fakes = fakes_of(network, count=2000)
    counts = np.bincount([label(fakes, i) for i in range(2000)], minlength=3)
    assert counts[2] == 0 and 340 < counts[0] < 460


def figures(network, devices, hosts=ALONE):
    fakes = fakes_of(network, Crop((32, 32), (32, 32), 0), devices=devices)
    reals, names = Reals(open_source(DATA), DATA, WHOLE, 50), ("fd_lite", "kd_lite", "self_ssim")
    return metrics.measure(
        names, fakes, reals, {"lite": NETWORK}, mesh_of(devices), None, None, hosts
    )


@pytest.fixture(scope="module")
def on_one_device(network):
    return figures(network, 1)


def test_fakes_and_features_are_the_same_on_any_devices(network, on_one_device):
    fakes = fakes_of(network, devices=8)
    np.testing.assert_array_equal(fakes.images(5, 9), fakes_of(network).images(0, 20)[5:9])
    assert figures(network, 8) == on_one_device
    low, value, high = (getattr(on_one_device["fd_lite"], end) for end in ("low", "value", "high"))
    assert low < value < high


ONE_OF_TWO = """
import json
import sys
import jax
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from creps_jax.data.hosts import Hosts
from creps_jax.training import exchange
from tests.evaluation import test_image_sets
from tests.helpers.generators import make_generator
hosts = Hosts(jax.process_index(), 2, exchange.gather)
print(json.dumps(test_image_sets.figures(make_generator(3), 4, hosts)))
"""


def test_two_processes_have_the_figures_of_one(on_one_device):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    flags = re.sub("device_count=8", "device_count=2", os.environ["XLA_FLAGS"])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, address, str(index)],
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for told in [process.communicate(timeout=120)[0] for process in both]:
        found = json.loads(told.splitlines()[-1])
        assert {name: tuple(ends) for name, ends in found.items()} == on_one_device


def test_keys_are_of_all_that_images_depend_on(network):
    _, variables = network
    other = network[0], jax.tree.map(lambda x: x * 1.0001, variables)
    keys = [
        fakes_of(network).key,
        fakes_of(other).key,
        fakes_of(network, count=21).key,
        fakes_of(network, truncation=0.5).key,
        fakes_of(network, label_shares=(1.0, 0.0, 0.0)).key,
        fakes_of(network, WHOLE._replace(seed=1)).key,
        fakes_of(network, WHOLE._replace(window=(8, 8))).key,
    ]
    assert len(set(keys)) == len(keys) and fakes_of(network, devices=8).key == keys[0]


# Reals.


def test_reals_are_spread_over_the_source_and_cut_in_the_middle(tmp_path):
    source = open_source(DATA)
    whole, few = Reals(source, DATA, WHOLE, 50), Reals(source, DATA, WHOLE, 3)
    assert (len(whole), len(few)) == (50, 3)
    np.testing.assert_array_equal(whole.images(10, 12)[1], source[11]["image"])
    np.testing.assert_array_equal(few.images(0, 3)[2], source[49]["image"])
    assert whole.key != few.key
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = DataConfig((SIDE, SIDE), 3, 0, source=f"folder:{tmp_path}", random_crop=True)
    larger = Reals(open_source(data), data, WHOLE, 1)
    np.testing.assert_array_equal(larger.images(0, 1)[0], pixels[2:18, 4:20])


# Features.


def test_what_is_kept_is_not_done_again_and_what_is_damaged_is(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "PART", 20)
    reals = Reals(open_source(DATA), DATA, WHOLE, 50)
    folder = kept_in(tmp_path, reals, NETWORK)

    def features(images=reals):
        return features_of(images, NETWORK, mesh_of(1), folder, Silent())["features"]

    expected = see(NETWORK.variables, reals.images(0, 50))["features"]
    first = features()
    np.testing.assert_allclose(first, expected, rtol=1e-6)
    assert sorted(p.name for p in folder.iterdir()) == [f"{i:07d}.npz" for i in (0, 20, 40)]

    class Fails:
        key = reals.key

        def __len__(self):
            return 50

        def images(self, start, stop):
            if start != 20:
                raise OSError(f"image {start} is asked for again")
            return reals.images(start, stop)

    (folder / "0000020.npz").write_bytes(b"PK damaged")
    np.testing.assert_array_equal(features(Fails()), first)
    (folder / "0000040.npz").unlink()
    with pytest.raises(OSError, match="image 40 is asked for again"):
        features(Fails())
    assert kept_in(tmp_path, reals, NETWORK._replace(key="other")) != folder


def test_what_cannot_be_kept_is_told_and_used(tmp_path, caplog):
    (tmp_path / "features").touch()  # A folder should be there.
    reals = Reals(open_source(DATA), DATA, WHOLE, 50)
    folder = kept_in(tmp_path, reals, NETWORK)
    found = features_of(reals, NETWORK, mesh_of(1), folder, Silent())
    assert found["features"].shape == (50, 4)
    assert "0000000.npz is not kept, it will be done again: " in caplog.text


def test_progress_counts_every_image(network):
    shown, reals = Counted(), Reals(open_source(DATA), DATA, WHOLE, 50)
    networks = {"lite": NETWORK}
    metrics.measure(("kd_lite",), fakes_of(network), reals, networks, mesh_of(1), None, shown)
    assert shown.count == 70


def test_what_has_no_generator_does_not_move():
    reals = Reals(open_source(DATA), DATA, WHOLE, 50)
    with pytest.raises(ValueError, match="eq_t is measured of a generator"):
        metrics.measure(("eq_t",), reals, reals, {}, mesh_of(1))


def test_images_are_resized_without_aliasing():
    """A grating beyond the small size's Nyquist frequency is grey there; a slow one stays."""
    x = np.arange(64)
    fast, slow = (np.cos(2 * np.pi * f * x) for f in (0.45, 0.02))
    images = jnp.asarray(
        np.stack([np.tile(w, (64, 1)) for w in (fast, slow)])[..., None], "float32"
    )
    small = np.asarray(resize(images, 16))
    assert np.abs(small[0, :, 2:-2]).max() < 0.05 < 0.9 < np.abs(small[1]).max()
