"""Folders and zips give the same checked images; what is wrong with them is said."""

import json
import logging
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from creps_jax.data import check, sources
from creps_jax.data.scenes.procedural import scene
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config

SIZE = 32
NAMES = [f"{i // 4:05d}/img{i}.png" for i in range(10)]


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """What is decoded is decoded anew each time, but where a test asks for the cache."""
    monkeypatch.setattr(sources, "CACHE_MIB", 0)


def crops(count):
    photo = load_sample_images().images[1]
    return [photo[8 * i : 8 * i + SIZE, 16 * i : 16 * i + SIZE] for i in range(count)]


@pytest.fixture
def folder(tmp_path):
    """Ten crops of a photograph with labels 0..2, and files that are none of ours."""
    root = tmp_path / "images"
    for name, image in zip(NAMES, crops(10), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)
    for other in (".hidden.png", "__MACOSX/img.png", ".cache/img.png", "readme.txt"):
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).write_bytes(b"not an image")
    write_labels(root, [[name, i % 3] for i, name in enumerate(NAMES)])
    return root


def write_labels(root, labels):
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))


def pack(root, path, compression):
    """A zip as `zip -r` makes it: with entries for directories and extra fields."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*"), reverse=True):
            info = zipfile.ZipInfo.from_file(file, file.relative_to(root))
            info.compress_type = compression
            info.extra = b"UT\x05\x00\x03\x00\x00\x00\x00"
            archive.writestr(info, b"" if file.is_dir() else file.read_bytes())
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def messages(caplog, level=logging.WARNING):
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def test_a_folder_gives_its_images_in_sorted_order(folder):
    source = open_source(data_config(f"folder:{folder}"))
    assert source.names == NAMES
    for i, image in enumerate(crops(10)):
        np.testing.assert_array_equal(source[i]["image"], image)
        assert source[i]["label"] == 0
        assert source[i]["label"].dtype == np.int32
    assert source.label_counts.shape == (0,)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_a_zip_equals_its_folder(folder, tmp_path, compression, num_classes):
    path = pack(folder, tmp_path / "images.zip", compression)
    expected = open_source(data_config(f"folder:{folder}", num_classes=num_classes))
    opened = open_source(data_config(f"zip:{path}", num_classes=num_classes))
    for source in (opened, pickle.loads(pickle.dumps(opened))):
        assert source.names == expected.names
        np.testing.assert_array_equal(source.label_counts, expected.label_counts)
        for i in range(len(source)):
            np.testing.assert_array_equal(source[i]["image"], expected[i]["image"])
            assert source[i]["label"] == expected[i]["label"]


def test_labels_are_read_and_counted(folder):
    source = open_source(data_config(f"folder:{folder}", num_classes=4))
    assert [source[i]["label"] for i in range(10)] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    np.testing.assert_array_equal(source.label_counts, [4, 3, 3, 0])


def test_one_channel(folder):
    source = open_source(data_config(f"folder:{folder}", image_channels=1))
    expected = np.asarray(Image.fromarray(crops(1)[0]).convert("L"))[..., None]
    np.testing.assert_array_equal(source[0]["image"], expected)


def test_a_truncated_file_is_named_once_and_left_out(folder, caplog):
    truncate(folder / NAMES[3])
    source = open_source(data_config(f"folder:{folder}", num_classes=3))
    assert source.names == NAMES[:3] + NAMES[4:]
    np.testing.assert_array_equal(source[3]["image"], crops(10)[4])
    assert [source[i]["label"] for i in range(5)] == [0, 1, 2, 1, 2]
    assert source.label_counts.sum() == 9
    assert sum(NAMES[3] in message for message in messages(caplog)) == 1
    assert any("1 of 10 images" in message for message in messages(caplog))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_one_wrong_bit_in_a_zip_is_found(folder, tmp_path, caplog, compression):
    (folder / NAMES[0]).unlink()
    Image.fromarray(crops(1)[0]).save(folder / "00000/img0.bmp")  # BMP has no checksum itself.
    path = pack(folder, tmp_path / "images.zip", compression)
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("00000/img0.bmp").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 1500] ^= 1
    path.write_bytes(data)
    source = open_source(data_config(f"zip:{path}"))
    assert source.names == NAMES[1:]
    assert any("img0.bmp: damaged in the archive" in message for message in messages(caplog))


@pytest.mark.parametrize(("damaged", "limit"), [(3, 0.2), (10, 1.0)])
def test_too_many_unreadable_files_stop_the_run(folder, damaged, limit):
    for name in NAMES[:damaged]:
        truncate(folder / name)
    with pytest.raises(ValueError) as error:
        open_source(data_config(f"folder:{folder}", max_unreadable=limit))
    for part in (f"{damaged} of 10", f"data.max_unreadable={limit}", NAMES[0], str(folder)):
        assert part in str(error.value)


def test_an_unreadable_share_at_the_limit_is_accepted(folder):
    for name in NAMES[:2]:
        truncate(folder / name)
    assert len(open_source(data_config(f"folder:{folder}", max_unreadable=0.2))) == 8


def test_a_file_that_becomes_unreadable_later_is_named(folder):
    source = open_source(data_config(f"folder:{folder}"))
    (folder / NAMES[0]).unlink()
    with pytest.raises(OSError, match=f"{NAMES[0]} was readable when it was checked.*No such"):
        source[0]


def test_a_wrong_size_is_an_error_or_is_resized(folder):
    photo = Image.fromarray(load_sample_images().images[0])
    photo.save(folder / "wide.jpg", quality=95)
    with pytest.raises(ValueError, match=r"wide\.jpg has 640x427 .*=32;.*data\.resize=True"):
        open_source(data_config(f"folder:{folder}"))
    source = open_source(data_config(f"folder:{folder}", resize=True))
    with Image.open(folder / "wide.jpg") as stored:
        square = stored.crop((106, 0, 533, 427))
    expected = square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(source[10]["image"], np.asarray(expected))


def test_a_long_check_reports_its_progress(folder, caplog, monkeypatch):
    monkeypatch.setattr(check, "_PROGRESS_SEC", 0)
    with caplog.at_level(logging.INFO, "creps_jax"):
        open_source(data_config(f"folder:{folder}"))
    pattern = r"Checked \d+ of 10 images, \d+ a second, \d+ seconds left\."
    assert any(re.fullmatch(pattern, message) for message in messages(caplog, logging.INFO))


class TestIndex:
    @pytest.fixture
    def checks(self, monkeypatch):
        """The number of times that the images were checked, as the length of a list."""
        done, decode_all = [], check._decode_all

        def counted(*arguments):
            done.append(1)
            return decode_all(*arguments)

        monkeypatch.setattr(check, "_decode_all", counted)
        return done

    def test_saves_the_second_check(self, folder, tmp_path, checks):
        truncate(folder / NAMES[3])
        index = tmp_path / "work" / "index.json"
        first, second = (open_source(data_config(f"folder:{folder}"), index) for _ in range(2))
        assert len(checks) == 1
        assert second.names == first.names
        assert list(json.loads(index.read_text())["unreadable"]) == [NAMES[3]]
        assert os.listdir(index.parent) == [index.name]

    def test_still_stops_a_run_on_too_many_unreadable(self, folder, tmp_path, checks):
        truncate(folder / NAMES[3])
        index = tmp_path / "index.json"
        open_source(data_config(f"folder:{folder}"), index)
        with pytest.raises(ValueError, match="1 of 10"):
            open_source(data_config(f"folder:{folder}", max_unreadable=0.0), index)

    def test_is_redone_when_a_file_changes(self, folder, tmp_path, checks):
        index = tmp_path / "index.json"
        assert len(open_source(data_config(f"folder:{folder}"), index)) == 10
        truncate(folder / NAMES[3])
        assert len(open_source(data_config(f"folder:{folder}"), index)) == 9

    def test_is_redone_when_other_sizes_become_errors(self, folder, tmp_path):
        index = tmp_path / "index.json"
        open_source(data_config(f"folder:{folder}", shape=(16, 16), resize=True), index)
        with pytest.raises(ValueError, match="resolution=16"):
            open_source(data_config(f"folder:{folder}", shape=(16, 16)), index)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}'])
    def test_is_redone_when_it_is_broken(self, folder, tmp_path, checks, content):
        index = tmp_path / "index.json"
        index.write_text(content)
        assert len(open_source(data_config(f"folder:{folder}"), index)) == 10
        assert len(checks) == 1
        open_source(data_config(f"folder:{folder}"), index)
        assert len(checks) == 1


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, "has no labels but num_classes=3"),
        ([[name, 0] for name in NAMES[:-1]], f"has no label for {NAMES[-1]}"),
        ([[name, 3] for name in NAMES], f"{NAMES[0]} the label 3; num_classes=3"),
        ([[name, -1] for name in NAMES], "label -1;"),
        ([[name, 1.0] for name in NAMES], "label 1.0;"),
        ([[name, True] for name in NAMES], "label True;"),
        ([[name, "1"] for name in NAMES], "label '1';"),
        (7, "does not have the form"),
    ],
)
def test_wrong_labels(folder, labels, expected):
    write_labels(folder, labels)
    with pytest.raises(ValueError, match=re.escape(expected)):
        open_source(data_config(f"folder:{folder}", num_classes=3))


def test_labels_that_are_no_json_or_missing(folder):
    (folder / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset\.json does not have the form"):
        open_source(data_config(f"folder:{folder}", num_classes=3))
    (folder / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"has no labels but num_classes=3.*add a dataset\.json"):
        open_source(data_config(f"folder:{folder}", num_classes=3))


def test_unconditional_runs_ignore_labels(folder):
    write_labels(folder, None)
    assert len(open_source(data_config(f"folder:{folder}"))) == 10


def test_files_that_are_taken_for_no_images_are_told(folder, caplog):
    (folder / "a.psd").write_bytes(b"8BPS")
    with caplog.at_level(logging.INFO, "creps_jax"):
        open_source(data_config(f"folder:{folder}"))
    assert "Taken for no images, by the ends of their names: hidden (3), " in caplog.text
    assert ".psd (1)" in caplog.text and ".txt (1)" in caplog.text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "images",
            "none of 'folder:PATH', 'zip:PATH', 'tar:PATH', 'lmdb:PATH', 'tfds:PATH' and 'proc",
        ),
        ("hdf5:images", "none of 'folder:PATH'"),
        ("folder:", "none of 'folder:PATH'"),
        ("folder:{root}/missing", "the folder {root}/missing does not exist"),
        ("zip:{root}/missing.zip", "the archive {root}/missing.zip does not exist"),
        ("folder:{root}/text.zip", "{root}/text.zip is a file, not a folder"),
        ("zip:{root}/empty", "{root}/empty is a folder, not a zip"),
        ("zip:{root}/text.zip", "{root}/text.zip is not a zip archive"),
        ("folder:{root}/empty", "has no images (.avif .bmp"),
        ("procedural:", "COUNT must be a positive integer, not ''"),
        ("procedural:0", "COUNT must be a positive integer, not '0'"),
        ("procedural:-3", "COUNT must be a positive integer, not '-3'"),
        ("procedural:1e3", "COUNT must be a positive integer, not '1e3'"),
    ],
)
def test_sources_that_cannot_be_opened(tmp_path, source, expected):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ValueError, match=re.escape(expected.format(root=tmp_path))) as error:
        open_source(data_config(source.format(root=tmp_path)))
    assert "data.source" in str(error.value)


def test_encrypted_and_exotic_zips_are_refused(folder, tmp_path):
    path = pack(folder, tmp_path / "images.zip", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # The flag of encryption in the directory.
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is encrypted"):
        open_source(data_config(f"zip:{path}"))
    path = pack(folder, tmp_path / "lzma.zip", zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match="compression method 14"):
        open_source(data_config(f"zip:{path}"))


def test_procedural_scenes():
    source = open_source(data_config("procedural:5", image_channels=1))
    assert len(source) == 5
    np.testing.assert_array_equal(source[4]["image"], scene(4, SIZE, 1))
    assert source.label_counts.shape == (0,)
    with pytest.raises(ValueError, match=r"num_classes is 2; set it to 0"):
        open_source(data_config("procedural:5", num_classes=2))


def test_a_small_set_is_decoded_once_and_equal(folder, monkeypatch):
    config = data_config(f"folder:{folder}", num_classes=3)
    plain = open_source(config)
    monkeypatch.setattr(sources, "CACHE_MIB", 256)
    cached = open_source(config)
    first = [cached[i] for i in range(len(cached))]
    for file in folder.rglob("*.png"):
        file.unlink()  # From here on, there is nothing to decode.
    assert len(cached) == len(plain) == len(first)
    for i, example in enumerate(first):
        np.testing.assert_array_equal(cached[i]["image"], example["image"])
        assert cached[i]["label"] == example["label"] == i % 3
    np.testing.assert_array_equal(cached.label_counts, plain.label_counts)
    with pytest.raises(OSError, match=r"no longer is"):
        plain[0]


def test_images_that_are_not_square_come_in_their_shape_and_others_are_refused(tmp_path):
    Image.new("RGB", (8, 16)).save(tmp_path / "a.png")
    source = f"folder:{tmp_path}"
    assert open_source(data_config(source, shape=(16, 8)))[0]["image"].shape == (16, 8, 3)
    wide = data_config(source, shape=(8, 16))
    with pytest.raises(ValueError, match=r"8x16 pixels .*resolution=8 and width=16"):
        open_source(wide)
    resized = data_config(source, shape=(8, 16), resize=True)
    assert open_source(resized)[0]["image"].shape == (8, 16, 3)
    assert open_source(data_config("procedural:2", shape=(8, 16)))[1]["image"].shape == (8, 16, 3)
