"""Every epoch sees every image once; a resumed iterator continues exactly."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from creps_jax.data.pipeline import make_iterator
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config

ENV = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}

SIZE = 8


def small_config(source, **changes):
    defaults = dict(shape=(SIZE, SIZE), mirror=True, max_unreadable=0.0)
    return data_config(source, **(defaults | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images; the class of image i is i, its left half i and its right half 100 + i."""
    root = tmp_path_factory.mktemp("images")
    for i in range(12):
        image = np.full((SIZE, SIZE, 3), i, np.uint8)
        image[:, SIZE // 2 :] += 100
        Image.fromarray(image).save(root / f"{i:02d}.png")
    labels = [[f"{i:02d}.png", i] for i in range(12)]
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return f"folder:{root}"


@pytest.fixture
def iterate(folder):
    """Makes iterators over the twelve images and closes them after the test."""
    made = []

    def start(batch_size, seed=1, process_index=0, process_count=1, **changes):
        config = small_config(folder, num_classes=12, **changes)
        arguments = (config, batch_size, seed, process_index, process_count)
        made.append(make_iterator(open_source(config), *arguments))
        return made[-1]

    yield start
    for iterator in made:
        iterator.close()


def take(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    return {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}


def assert_equal(found, expected):
    np.testing.assert_array_equal(found["image"], expected["image"])
    np.testing.assert_array_equal(found["label"], expected["label"])


def test_batches_have_the_promised_form(iterate):
    batch = next(iterate(5))
    assert batch["image"].shape == (5, SIZE, SIZE, 3)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].shape == (5,)
    assert batch["label"].dtype == np.int32


def test_each_epoch_sees_every_image_once_in_another_order(iterate):
    epochs = take(iterate(4), 9)["label"].reshape(3, 12)
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_seed_decides_the_order(iterate):
    first, same, other = (take(iterate(4, seed), 6) for seed in (1, 1, 2))
    assert_equal(first, same)
    assert (first["label"] != other["label"]).any()


def test_half_of_the_images_are_mirrored_and_rightly(iterate):
    batches = take(iterate(12), 50)
    images, labels = batches["image"].reshape(-1, SIZE, SIZE, 3), batches["label"].ravel()
    mirrored = images[:, 0, 0, 0] != labels
    assert 0.42 < mirrored.mean() < 0.58
    left = images[:, :, : SIZE // 2] - labels[:, None, None, None]
    right = images[:, :, SIZE // 2 :] - labels[:, None, None, None]
    np.testing.assert_array_equal(
        left, np.broadcast_to(mirrored[:, None, None, None] * 100, left.shape)
    )
    np.testing.assert_array_equal(right, 100 - left)


def test_the_same_image_is_mirrored_anew_in_each_epoch(iterate):
    batches = take(iterate(12), 20)
    mirrored = batches["image"][:, :, 0, 0, 0] != batches["label"]
    by_image = np.take_along_axis(mirrored, batches["label"].argsort(1), 1)
    assert (by_image.any(0) & ~by_image.all(0)).all()


def test_without_mirror_images_are_as_stored(iterate):
    batches = take(iterate(12, mirror=False), 4)
    np.testing.assert_array_equal(batches["image"][:, :, 0, 0, 0], batches["label"])


@pytest.mark.parametrize("consumed", [0, 1, 4])
def test_a_resumed_iterator_equals_the_unbroken_one(iterate, consumed):
    unbroken = iterate(5)
    for _ in range(consumed):
        next(unbroken)
    state = json.loads(json.dumps(unbroken.get_state()))
    expected = take(unbroken, 8)
    fresh, used = iterate(5, threads=3), iterate(5)
    take(used, 3)
    for iterator in (fresh, used):
        iterator.set_state(state)
        assert_equal(take(iterator, 8), expected)


def test_worker_processes_change_nothing(iterate):
    threads, workers = iterate(5), iterate(5, workers=2)
    take(threads, 3)
    workers.set_state(threads.get_state())
    assert_equal(take(workers, 4), take(threads, 4))
    assert workers.get_state() == threads.get_state()


def test_two_shards_together_are_the_whole(iterate):
    whole = take(iterate(6), 5)
    shards = [take(iterate(6, 1, process, 2), 5) for process in (0, 1)]
    for key in whole:
        together = np.concatenate([shards[0][key], shards[1][key]], 1)
        np.testing.assert_array_equal(together, whole[key])


def test_a_batch_may_be_larger_than_the_source(iterate):
    labels = take(iterate(30), 2)["label"].ravel()
    np.testing.assert_array_equal(np.bincount(labels), [5] * 12)


def test_a_batch_that_processes_cannot_share_is_an_error(iterate):
    with pytest.raises(ValueError, match="batch size 5 is not divisible by the 2 processes"):
        iterate(5, process_count=2)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Four images of other sizes; a pixel's channels are its image, its row and its column."""
    root = tmp_path_factory.mktemp("wide")
    for i in range(4):
        image = np.empty((SIZE + 3 * (i % 2), SIZE + 5, 3), np.uint8)
        image[..., 0], image[..., 1], image[..., 2] = i, *np.indices(image.shape[:2])
        Image.fromarray(image).save(root / f"{i}.png")
    return f"folder:{root}"


def crops(source, batches, batch_size=4, **changes):
    config = small_config(source, random_crop=True, mirror=False, **changes)
    iterator = make_iterator(open_source(config), config, batch_size, 0)
    images = take(iterator, batches)["image"].reshape(-1, SIZE, SIZE, 3)
    iterator.close()
    return images


def test_random_crops_are_windows_of_the_image_and_each_occurs(wide):
    images = crops(wide, 100)
    rows, columns = np.indices((SIZE, SIZE))
    places = {0: set(), 1: set(), 2: set(), 3: set()}
    for image in images:
        number, y, x = image[0, 0]
        np.testing.assert_array_equal(image[..., 0], number)
        np.testing.assert_array_equal(image[..., 1], y + rows)
        np.testing.assert_array_equal(image[..., 2], x + columns)
        places[int(number)].add((int(y), int(x)))
    for number, found in places.items():
        assert found == {(y, x) for y in range(4 if number % 2 else 1) for x in range(6)}


def test_crops_do_not_depend_on_threads_or_processes(wide):
    expected = crops(wide, 4)
    for changes in ({"threads": 1}, {"workers": 2}):
        np.testing.assert_array_equal(crops(wide, 4, **changes), expected)


def test_images_are_scaled_before_they_are_cropped_on_demand(wide):
    small = crops(wide, 20, resize=True)
    assert small.shape == (80, SIZE, SIZE, 3)
    assert small[..., 1].max() <= SIZE + 2  # All rows of the taller ones are in each crop.
    tall = small[np.round(small[..., 0].mean((1, 2))) == 1]
    assert (tall[:, 0, :, 1] <= 1).all() and (tall[:, -1, :, 1] >= SIZE + 1).all()


def test_images_too_small_for_a_crop_are_refused(tmp_path):
    Image.new("RGB", (SIZE + 9, SIZE - 1)).save(tmp_path / "flat.png")
    with pytest.raises(ValueError, match=r"flat.png has 17x7 pixels.*too few for random crops"):
        open_source(small_config(f"folder:{tmp_path}", random_crop=True))


def test_a_closed_iterator_ends_without_noise(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from creps_jax.data.pipeline import make_iterator
            from creps_jax.data.sources import open_source
            from tests.helpers.data import data_config

            def main():
                config = data_config("procedural:9", shape=(8, 8), workers=1)
                iterator = make_iterator(open_source(config), config, 4, 0)
                print(next(iterator)["image"].shape)
                iterator.close()

            if __name__ == "__main__":
                main()
            """
        )
    )
    command = [sys.executable, "-W", "error::ResourceWarning", script]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(4, 8, 8, 3)\n", "")
