"""Every field of data, in a real start of a run: opened, checked, a grid of reals, a batch."""

import contextlib
import io
import tarfile
import zipfile

import lmdb
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from configs import default
from creps_jax.data.preparation import outputs
from creps_jax.training import samples
from creps_jax.training.run import prepare
from experiments.kill_hunt import tiny_config

SIZE = 8  # px, of the tiny network
BATCH = 16


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The same images in every container; in 'wide' larger ones, each of another size."""
    root = tmp_path_factory.mktemp("sets")
    photo = load_sample_images().images[0]
    for folder in ("images", "wide", "damaged"):
        (root / folder).mkdir()
    for i in range(6):
        image = Image.fromarray(photo[9 * i : 9 * i + SIZE, 5 * i : 5 * i + SIZE])
        image.save(root / "images" / f"{i}.png")
        image.save(root / "damaged" / f"{i}.png")
        window = photo[9 * i : 9 * i + SIZE + i, 5 * i : 5 * i + SIZE + 7 - i]
        Image.fromarray(window).save(root / "wide" / f"{i}.png")
    (root / "damaged" / "0.png").write_bytes(b"no image")
    files = {path.name: path.read_bytes() for path in sorted((root / "images").iterdir())}
    with zipfile.ZipFile(root / "a.zip", "w") as packed, tarfile.open(root / "a.tar", "w") as tar:
        for name, data in files.items():
            packed.writestr(name, data)
            tar.addfile(tarinfo(name, data), io.BytesIO(data))
    with lmdb.open(str(root / "lmdb")) as database, database.begin(write=True) as writing:
        for name, data in files.items():
            writing.put(name.encode(), data)
    kept = (outputs.Kept(name, None, ".png", data) for name, data in files.items())
    outputs.write_tfds(kept, [], root / "set", "set", 3)
    return root


def tarinfo(name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member


# Each is a start, with these fields of data.
STARTS = [
    {"source": "folder:{sets}/images"},
    {"source": "zip:{sets}/a.zip"},
    {"source": "tar:{sets}/a.tar"},
    {"source": "lmdb:{sets}/lmdb"},
    {"source": "tfds:{sets}/set"},
    {"source": "procedural:9", "mirror": True},
    {"source": "folder:{sets}/wide", "resize": True},
    {"source": "folder:{sets}/wide", "random_crop": True},
    {"source": "folder:{sets}/wide", "random_crop": True, "resize": True},
    {"source": "folder:{sets}/damaged", "max_unreadable": 0.2},
    {"source": "folder:{sets}/wide", "resize": True, "max_megapixels": 0.001},
    {"source": "zip:{sets}/a.zip", "threads": 1},
    {"source": "zip:{sets}/a.zip", "workers": 1},
]


def test_every_field_of_data_is_in_a_start():
    assert {name for fields in STARTS for name in fields} == set(default.get_config().data)


@pytest.mark.parametrize("fields", STARTS, ids=lambda fields: " ".join(map(str, fields.values())))
def test_a_run_starts(sets, tmp_path, fields):
    changes = {f"data.{name}": value for name, value in fields.items()}
    changes["data.source"] = fields["source"].format(sets=sets)
    run = prepare(tiny_config({"batch_size": BATCH, **changes}), tmp_path)
    with run.lock, contextlib.closing(run.batches), run.checkpoints:
        assert len(run.source) == {"procedural:9": 9}.get(fields["source"], 6) - (
            "max_unreadable" in fields
        )
        grid = samples.reals(run.source, run.config.data.shape)
        rows, columns = samples.grid_shape((SIZE, SIZE))
        assert grid.shape == (rows * SIZE, columns * SIZE, 3)
        assert next(run.batches)["image"].shape == (BATCH, SIZE, SIZE, 3)


def test_the_grid_shows_the_middle_of_larger_images():
    image = np.arange(11 * 10 * 3, dtype=np.uint8).reshape(11, 10, 3)
    grid = samples.reals([{"image": image}, {"image": image[1:9, 1:9]}], (8, 8))
    np.testing.assert_array_equal(grid[:8, :8], image[1:9, 1:9])
    np.testing.assert_array_equal(grid[-8:, -8:], image[1:9, 1:9])
