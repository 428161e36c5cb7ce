"""`creps dataset`: what goes in comes out as asked for, once, whatever kills the command."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from typer.testing import CliRunner

from creps_jax import cli
from creps_jax.data.containers.schemes import open_container
from creps_jax.data.decode import cover, fit
from creps_jax.data.preparation import prepare
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config
from tests.helpers.processes import children, is_running, wait_until

PHOTO = load_sample_images().images[0]


def crop(i, height=60, width=90):
    return Image.fromarray(PHOTO[5 * i : 5 * i + height, 3 * i : 3 * i + width])


@pytest.fixture
def photos(tmp_path):
    """Six photographs in two folders, and files that are none."""
    root = tmp_path / "photos"
    for i in range(6):
        path = root / ("cats", "dogs")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop(i).save(path)
    (root / "notes.txt").write_text("none")
    return root


def run(*arguments, processes=1):
    arguments = ["dataset", *map(str, arguments), f"--processes={processes}"]
    return CliRunner().invoke(cli.app, arguments)


def made(*arguments, **options):
    """The output of a command that succeeds."""
    done = run(*arguments, **options)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def report(out):
    return json.loads(out.with_name(f"{out.name}.report.json").read_text())


def images(path):
    """Name -> pixels, of the images in a zip; and its dataset.json."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(files.pop("dataset.json"))
    return {k: np.asarray(Image.open(io.BytesIO(v))) for k, v in files.items()}, description


def test_a_folder_becomes_a_zip_in_stylegans_form(photos, tmp_path):
    out = tmp_path / "sets" / "mine.zip"
    output = made(f"--source={photos}", "--size=32", f"--out={out}")
    found, description = images(out)
    order = [0, 2, 4, 1, 3, 5]  # As the paths are sorted.
    assert list(found) == [f"00000/img{k:08d}.png" for k in range(6)]
    for k, pixels in enumerate(found.values()):
        np.testing.assert_array_equal(pixels, np.asarray(fit(crop(order[k]), 32, 32)))
    assert description == {"labels": None}
    assert "Kept 6 of 6 images: 0 as they were, 6 converted, 0 of these enlarged." in output
    assert "Sizes before, width x height: 90x60 (6)." in output
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "mine.zip",
        "mine.zip.report.json",
        "mine.zip.sheet.png",
    ]
    source = open_source(data_config(f"zip:{out}"))
    np.testing.assert_array_equal(source[1]["image"], list(found.values())[1])
    sheet = np.asarray(Image.open(f"{out}.sheet.png"))
    np.testing.assert_array_equal(sheet[:32, 128:160], list(found.values())[1])


def test_a_folder_becomes_a_tfds_set(photos, tmp_path):
    out = tmp_path / "sets" / "my set"
    output = made(f"--source={photos}", "--size=32", "--labels=folders", f"--out={out}")
    assert f"train with --config.data.source=tfds:{out}" in output
    source = open_source(data_config(f"tfds:{out}", num_classes=2))
    for k, i in enumerate((0, 2, 4, 1, 3, 5)):
        np.testing.assert_array_equal(source[k]["image"], np.asarray(fit(crop(i), 32, 32)))
        assert source[k]["label"] == i % 2
    shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile)
    copied = open_source(data_config(f"tfds:{tmp_path}/copy", num_classes=2))
    assert copied.fingerprint == source.fingerprint
    assert (out / "label.labels.txt").read_text().split() == ["cats", "dogs"]


@pytest.mark.parametrize("size", ["20x40", "40x20", "24"])
def test_other_shapes_are_cropped_from_the_middle(photos, tmp_path, size):
    made(f"--source={photos}", f"--size={size}", f"--out={tmp_path}/a.zip")
    height, width = map(int, (size if "x" in size else f"{size}x{size}").split("x"))
    pixels = images(tmp_path / "a.zip")[0]["00000/img00000000.png"]
    np.testing.assert_array_equal(pixels, np.asarray(fit(crop(0), height, width)))


def test_without_crop_the_whole_image_is_kept_for_random_crops(photos, tmp_path):
    made(f"--source={photos}", "--size=40", "--no-crop", f"--out={tmp_path}/a.zip")
    pixels = images(tmp_path / "a.zip")[0]["00000/img00000000.png"]
    np.testing.assert_array_equal(pixels, np.asarray(cover(crop(0), 40, 40)))
    assert pixels.shape == (40, 60, 3)
    config = data_config(f"zip:{tmp_path}/a.zip", shape=(40, 40), random_crop=True)
    assert open_source(config)[0]["image"].shape == (40, 60, 3)


def test_one_channel(photos, tmp_path):
    made(f"--source={photos}", "--size=32", "--grey", f"--out={tmp_path}/a.zip")
    pixels = images(tmp_path / "a.zip")[0]["00000/img00000000.png"]
    np.testing.assert_array_equal(pixels, np.asarray(fit(crop(0).convert("L"), 32, 32)))


def test_files_that_are_as_wanted_are_kept_byte_for_byte(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    square = crop(0, 32, 32)
    square.save(photos / "a.jpg", quality=70)
    square.save(photos / "b.png", compress_level=1)
    square.save(photos / "c.webp")
    turned = Image.Exif()
    turned[0x0112] = 6
    square.save(photos / "d.png", exif=turned)
    output = made(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip")
    assert "Kept 4 of 4 images: 2 as they were, 2 converted" in output
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()[:4]
        assert [name[-4:] for name in names] == [".jpg", ".png", ".png", ".png"]
        assert archive.read(names[0]) == (photos / "a.jpg").read_bytes()
        assert archive.read(names[1]) == (photos / "b.png").read_bytes()
    found = list(images(tmp_path / "a.zip")[0].values())
    np.testing.assert_array_equal(found[3], np.rot90(np.asarray(square), -1))


def test_several_sources_follow_one_another(photos, tmp_path):
    made(f"--source={photos}/cats", "--size=32", f"--out={tmp_path}/cats.zip")
    made(f"--source={photos}/dogs", "--size=32", f"--out={tmp_path}/dogs")
    sources = [f"--source={tmp_path}/dogs", f"--source={tmp_path}/cats.zip"]
    output = made(*sources, "--size=32", f"--out={tmp_path}/all.zip")
    assert "6 as they were" in output
    for k, i in enumerate((1, 3, 5, 0, 2, 4)):
        pixels = images(tmp_path / "all.zip")[0][f"00000/img{k:08d}.png"]
        np.testing.assert_array_equal(pixels, np.asarray(fit(crop(i), 32, 32)))


def test_what_cannot_be_used_is_dropped_and_listed(photos, tmp_path):
    crop(0, 31, 90).save(photos / "flat.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (tmp_path / "secret.png").write_bytes((photos / "cats/0.png").read_bytes())
    (photos / "link.png").symlink_to(tmp_path / "secret.png")
    out = tmp_path / "a.zip"
    output = made(f"--source={photos}", "--size=32", f"--out={out}")
    dropped = dict(report(out)["dropped"])
    assert set(dropped) == {"broken.jpg", "flat.png", "link.png"}
    assert dropped["flat.png"] == "90x31 px: its shorter side is below 32 (--min-size)"
    assert "outside the folder" in dropped["link.png"]
    assert "Kept 6 of 9 images" in output and "Dropped 3:\n  broken.jpg: " in output
    output = made(f"--source={photos}", "--size=32", "--min-size=31", f"--out={tmp_path}/b.zip")
    assert "Kept 7 of 9 images: 0 as they were, 7 converted, 1 of these enlarged." in output


def test_equal_pixels_are_found_and_left_out_on_demand(photos, tmp_path):
    crop(3).save(photos / "again.bmp")
    crop(3).save(photos / "dogs" / "9.webp", lossless=True)
    output = made(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip")
    assert "2 have the same pixels as others (--deduplicate drops them)." in output
    same = ["again.bmp", "dogs/3.png", "dogs/9.webp"]
    assert report(tmp_path / "a.zip")["duplicates"] == [same]
    assert len(images(tmp_path / "a.zip")[0]) == 8
    made(f"--source={photos}", "--size=32", "--deduplicate", f"--out={tmp_path}/b.zip")
    assert len(images(tmp_path / "b.zip")[0]) == 6
    assert report(tmp_path / "b.zip")["dropped"] == [
        [name, "the same pixels as again.bmp"] for name in same[1:]
    ]


class TestLabels:
    def labels(self, photos, out, *options):
        made(f"--source={photos}", "--size=32", f"--out={out}", *options)
        description = images(out)[1]
        return [label for _, label in description["labels"]], description["classes"]

    def test_are_the_folders_names(self, photos, tmp_path):
        found = self.labels(photos, tmp_path / "a.zip", "--labels=folders")
        assert found == ([0, 0, 0, 1, 1, 1], ["cats", "dogs"])
        assert report(tmp_path / "a.zip")["classes"] == {"cats": 3, "dogs": 3}
        source = open_source(data_config(f"zip:{tmp_path}/a.zip", num_classes=2))
        assert [source[k]["label"] for k in range(6)] == [0, 0, 0, 1, 1, 1]

    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("l.json", '{"cats/0.png": "b", "dogs/1.png": "a"}', ([1, 0], ["a", "b"])),
            (
                "l.json",
                '{"labels": [["cats/0.png", 2], ["dogs/1.png", 0]]}',
                ([2, 0], ["0", "1", "2"]),
            ),
            ("l.csv", "file,class\ncats/0.png,1\ndogs/1.png,0\n", ([1, 0], ["0", "1"])),
            ("l.csv", "cats/0.png,tabby\ndogs/1.png,pug\n", ([1, 0], ["pug", "tabby"])),
            ("l.csv", "cats/0.png, 1\ndogs/1.png, 0\n", ([1, 0], ["0", "1"])),
            ("l.csv", "cats\\0.png,0\n./dogs//1.png,1\ncats/0.png,0\n", ([0, 1], ["0", "1"])),
            ("l.csv", '\ufeff"cats/0.png","a, b"\r\ndogs/1.png,c\r\n', ([0, 1], ["a, b", "c"])),
        ],
    )
    def test_come_from_a_file(self, photos, tmp_path, name, content, expected):
        (tmp_path / name).write_text(content, newline="")
        out = tmp_path / "a.zip"
        assert self.labels(photos, out, f"--labels={tmp_path}/{name}") == expected
        dropped = report(out)["dropped"]
        assert len(dropped) == 4 and ["cats/2.png", "it has no label"] in dropped

    def test_of_the_sources_are_kept(self, photos, tmp_path):
        made(f"--source={photos}", "--size=40", "--labels=folders", f"--out={tmp_path}/a.zip")
        made(f"--source={photos}", "--size=40", "--labels=folders", f"--out={tmp_path}/a")
        for name in ("a.zip", "a"):
            found, _ = self.labels(tmp_path / name, tmp_path / f"{name}.b.zip")
            assert found == [0, 0, 0, 1, 1, 1]

    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("l.csv", "a,b,c\n", "must have lines NAME,CLASS, has 'a,b,c'"),
            ("l.csv", "x.png,1\n", "names none of the images, such as cats/0.png, but x.png"),
            ("l.csv", "", "names none of the images, such as cats/0.png, but nothing"),
            ("l.json", "{", "must have the form"),
            ("l.json", "[1]", "must have the form"),
            ("l.json", '{"cats/0.png": 1.5}', "the label 1.5 is neither a name nor a whole number"),
            ("l.json", '{"cats/0.png": -1}', "the label -1 is neither"),
            ("l.csv", "cats/0.png,1\ncats/0.png,2\n", "l.csv: cats/0.png has two labels, 1 and 2"),
            (
                "l.json",
                '{"cats/0.png": 1, "cats/0.png": 2}',
                "'cats/0.png' is there more than once",
            ),
            ("l.csv", f"cats/0.png,{'x' * 200000}\n", "cannot be read: field larger than"),
            ("l.json", '{"cats/0.png": [1]}', "the label [1] is neither"),
            ("l.json", '{"cats/0.png": 300000000000}', "nor a whole number below 1000000"),
            ("l.json", "[" * 100000, "must have the form"),
            ("l.txt", "", "must be 'folders' or 'none', or end in .json or .csv"),
            ("none.json", None, "none.json cannot be read"),
        ],
    )
    def test_that_are_wrong_are_said(self, photos, tmp_path, name, content, expected):
        if content is not None:
            (tmp_path / name).write_text(content)
        out = tmp_path / "a.zip"
        labels = f"--labels={tmp_path}/{name}"
        done = run(f"--source={photos}", "--size=32", f"--out={out}", labels)
        assert done.exit_code == 2
        assert "Invalid value for '--labels'" in done.output and expected in done.output
        assert not out.exists()

    def test_that_only_change_their_names_are_another_set(self, photos, tmp_path):
        for names, code in ((("a", "b"), 0), (("c", "d"), 2)):
            lines = f"cats/0.png,{names[0]}\ndogs/1.png,{names[1]}\n"
            (tmp_path / "l.csv").write_text(lines)
            options = (f"--labels={tmp_path}/l.csv", f"--out={tmp_path}/a.zip")
            assert run(f"--source={photos}", "--size=32", *options).exit_code == code

    def test_of_several_sources_are_joined_by_their_names(self, photos, tmp_path):
        for name, folder in (("a.zip", "dogs"), ("b", "cats")):
            (tmp_path / "in" / name).mkdir(parents=True)
            (photos / folder).rename(tmp_path / "in" / name / folder)
            source = f"--source={tmp_path}/in/{name}"
            made(source, "--size=32", "--labels=folders", f"--out={tmp_path}/{name}")
        out = tmp_path / "all.zip"
        made(f"--source={tmp_path}/a.zip", f"--source={tmp_path}/b", "--size=32", f"--out={out}")
        _, description = images(out)
        assert description["classes"] == ["cats", "dogs"]
        assert [label for _, label in description["labels"]] == [1, 1, 1, 0, 0, 0]

    def test_that_are_numbers_stay_the_same_numbers(self, photos, tmp_path):
        lines = "".join(f"{n}.png,{c}\n" for n, c in (("cats/0", 2), ("dogs/1", 10)))
        (tmp_path / "l.csv").write_text(lines)
        for name, more in (("a.zip", [f"--labels={tmp_path}/l.csv"]), ("b", []), ("c.zip", [])):
            source = photos if more else tmp_path / ("a.zip" if name == "b" else "b")
            made(f"--source={source}", "--size=32", *more, f"--out={tmp_path}/{name}")
        assert [label for _, label in images(tmp_path / "c.zip")[1]["labels"]] == [2, 10]

    def test_that_are_unclear_are_refused(self, photos, tmp_path):
        made(f"--source={photos}", "--size=32", "--labels=folders", f"--out={tmp_path}/a.zip")
        made(f"--source={photos}", "--size=32", f"--out={tmp_path}/b.zip")
        two = (f"--source={tmp_path}/a.zip", f"--source={tmp_path}/b.zip", "--size=32")
        done = run(*two, f"--out={tmp_path}/c.zip")
        assert (
            "of the sources only some have labels; say what is meant with --labels" in done.output
        )
        made(*two, "--labels=none", f"--out={tmp_path}/c.zip")
        (tmp_path / "l.csv").write_text("00000/img00000000.png,1\n")
        done = run(*two, f"--labels={tmp_path}/l.csv", f"--out={tmp_path}/d.zip")
        assert "00000/img00000000.png is in several sources" in done.output

    def test_need_a_folder(self, photos, tmp_path):
        crop(0).save(photos / "loose.png")
        done = run(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip", "--labels=folders")
        assert "loose.png lies in no folder that could name its class" in done.output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--source=none", "--size=32", "--out=a.zip"],
            "'--source': the folder none does not exist",
        ),
        (["--source={photos}", "--size=0", "--out=a.zip"], "'--size'"),
        (
            ["--source={photos}", "--size=8x9", "--no-crop", "--out=a.zip"],
            "'--size': without --crop",
        ),
        (["--source={photos}", "--size=32", "--out=a.tar"], "'--out': a.tar must end in .zip"),
        (["--source={photos}", "--size=32", "--out={photos}/a.zip"], "lies in the source"),
        (["--source=folder:{photos}", "--size=32", "--out={photos}/a.zip"], "lies in the source"),
        (["--source={photos}", "--size=32", "--out=."], "'--out': . must end in .zip, or be"),
        (["--source={photos}", "--size=32", "--out=gs://b/x.zip"], "is no local file"),
        (["--source={photos}", "--size=32", "--out=photos"], "lies in the source"),
        (["--source={photos}", "--size=60000", "--out=a.zip"], "'--size': 60000x60000 px are more"),
        (
            ["--source=x.tar.gz", "--size=32", "--out=a.zip"],
            "'--source': the archive x.tar.gz does",
        ),
        (["--source={photos}", "--size=32", "--out=a.zip", "--min-size=0"], "'--min-size'"),
        (["--source={photos}", "--size=32", "--out=a.zip", "--processes=0"], "'--processes'"),
        (["--source=tfds:none_such", "--size=32", "--out=a.zip"], "'--source': tfds:none_such"),
    ],
)
def test_wrong_options_are_named(photos, tmp_path, monkeypatch, options, expected):
    monkeypatch.chdir(tmp_path)
    options = [option.format(photos=photos) for option in options]
    done = CliRunner().invoke(cli.app, ["dataset", *options])
    assert done.exit_code == 2 and expected in done.output
    assert not list(tmp_path.glob("a*"))


def test_names_that_are_no_text_are_told_in_another_way(tmp_path):
    photos = os.fsencode(tmp_path / "photos")
    os.mkdir(photos)
    for name in (b"\xff1.png", b"\xff2.png"):
        with open(os.path.join(photos, name), "wb") as file:
            crop(0).save(file, "png") if b"1" in name else file.write(b"junk")
    for out in (tmp_path / "a.zip", tmp_path / "a"):
        output = made(f"--source={tmp_path}/photos", "--size=32", f"--out={out}")
        assert "Dropped 1:\n  \\udcff2.png: " in output


def test_other_options_begin_anew(photos, tmp_path, monkeypatch, caplog):
    def fail(*arguments):
        raise OSError("no space")

    out = tmp_path / "a.zip"
    with monkeypatch.context() as patched:
        patched.setattr("creps_jax.data.preparation.outputs.write_zip", fail)
        assert run(f"--source={photos}", "--size=32", f"--out={out}").exit_code == 1
    assert "6 images, 0 of them" in made(f"--source={photos}", "--size=16", f"--out={out}")
    assert f"{out}.partial holds parts of other images or options: begins anew" in caplog.text
    assert images(out)[0]["00000/img00000000.png"].shape == (16, 16, 3)


def test_a_source_that_goes_away_loses_no_image(photos, tmp_path):
    """As a network disk may, or one that is full of errors."""
    sources = [open_container(f"folder:{photos}")]
    items = [prepare.Item(0, name, None) for name in sources[0].images()]
    job = prepare.make_job(sources, items, [], prepare.Options(32, 32, True, 3, 1, 1.0))
    photos.rename(tmp_path / "away")
    with prepare.locked(tmp_path / "partial"):
        missing = prepare.begin(job, tmp_path / "partial")
        with pytest.raises(OSError, match=r"'cats/0.png' cannot be read: .*command continues"):
            prepare.prepare_parts(job, tmp_path / "partial", missing, 1, len)
        (tmp_path / "away").rename(photos)
        assert prepare.begin(job, tmp_path / "partial") == missing
        prepare.prepare_parts(job, tmp_path / "partial", missing, 1, lambda images: None)
        found = prepare.read_outcomes(job, tmp_path / "partial")
    assert [outcome.dropped for outcome in found] == [""] * 6


def test_a_folder_of_the_users_is_not_emptied(photos, tmp_path):
    (tmp_path / "a.zip.partial").mkdir()
    (tmp_path / "a.zip.partial" / "notes.txt").write_text("precious")
    done = run(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip")
    assert done.exit_code == 1
    assert f"{tmp_path}/a.zip.partial is needed, and holds notes.txt: move it" in done.output
    assert (tmp_path / "a.zip.partial" / "notes.txt").read_text() == "precious"


def cut(part):
    os.truncate(part, 500)


def flip(part):
    """One byte of the first image, after the local header."""
    content = bytearray(part.read_bytes())
    content[200] ^= 1
    part.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_part_is_made_anew(photos, tmp_path, monkeypatch, damage):
    out = tmp_path / "a.zip"
    with monkeypatch.context() as patched:
        patched.setattr("creps_jax.data.preparation.outputs.write_zip", lambda *arguments: 1 / 0)
        assert isinstance(
            run(f"--source={photos}", "--size=32", f"--out={out}").exception, ZeroDivisionError
        )
    (part,) = tmp_path.glob("a.zip.partial/0*.zip")
    damage(part)
    done = run(f"--source={photos}", "--size=32", f"--out={out}")
    assert done.exit_code == 1 and f"{part} was damaged" in done.output
    made(f"--source={photos}", "--size=32", f"--out={out}")
    assert len(images(out)[0]) == 6


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_a_set_that_was_damaged_is_not_called_complete(photos, tmp_path, name):
    out = tmp_path / name
    made(f"--source={photos}", "--size=32", f"--out={out}")
    (file,) = [out] if out.is_file() else out.glob("*array_record*")
    os.truncate(file, 1000)
    done = run(f"--source={photos}", "--size=32", f"--out={out}")
    assert done.exit_code == 2 and "has changed since" in done.output


def test_images_that_would_be_too_long_are_dropped(photos, tmp_path):
    Image.new("RGB", (20000, 1)).save(photos / "strip.png")
    options = ("--size=128", "--no-crop", "--min-size=1")
    output = made(f"--source={photos}", *options, f"--out={tmp_path}/a.zip")
    assert "strip.png: 20000x1 px: too long for a shorter side of 128" in output


def test_files_that_are_taken_for_no_images_are_counted(photos, tmp_path):
    (photos / "b.psd").write_bytes(b"x")
    (photos / ".hidden.png").write_bytes(b"x")
    output = made(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip")
    assert "Taken for no images, by the ends of their names: " in output
    assert report(tmp_path / "a.zip")["ignored"] == {"hidden": 1, ".psd": 1, ".txt": 1}


def test_names_of_several_sources_are_told_apart(photos, tmp_path):
    (tmp_path / "b" / "cats").mkdir(parents=True)
    crop(0).save(tmp_path / "b" / "cats" / "0.png")
    sources = (f"--source={photos}", f"--source={tmp_path}/b")
    made(*sources, "--size=32", f"--out={tmp_path}/a.zip")
    same = [f"folder:{photos}/cats/0.png", f"folder:{tmp_path}/b/cats/0.png"]
    assert report(tmp_path / "a.zip")["duplicates"] == [same]


def test_the_command_tells_how_to_train_on_the_set(photos, tmp_path):
    out = tmp_path / "a.zip"
    more = ("--labels=folders", "--grey", "--no-crop")
    output = made(f"--source={photos}", "--size=32", *more, f"--out={out}")
    flags = re.findall(r"--config\.(\S+)=(\S+)", output)
    assert dict(flags) == {
        "data.source": f"zip:{out}",
        "resolution": "32",
        "data.random_crop": "True",
        "image_channels": "1",
        "num_classes": "2",
    }


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"junk")
    done = run(f"--source={tmp_path}/photos", "--size=32", f"--out={tmp_path}/a.zip")
    assert done.exit_code == 1
    assert "Kept 0 of 1 images" in done.output and "a.png: not an image file" in done.output
    assert not (tmp_path / "a.zip").exists()


def test_a_complete_set_is_left_alone_and_another_one_not_replaced(photos, tmp_path):
    out = tmp_path / "a.zip"
    command = (f"--source={photos}", f"--out={out}")
    made(*command, "--size=32")
    before = out.read_bytes()
    assert made(*command, "--size=32") == f"{out} is complete already\n"
    for changed in (["--size=16"], ["--size=32", "--deduplicate"]):
        done = run(*command, *changed)
        assert done.exit_code == 2
        assert f"{out} exists, and was made of other images or with other options" in done.output
    crop(1).save(photos / "cats" / "0.png")
    assert run(*command, "--size=32").exit_code == 2
    assert out.read_bytes() == before


def test_the_result_does_not_depend_on_the_number_of_processes(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "PART", 2)
    made(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip", processes=1)
    made(f"--source={photos}", "--size=32", f"--out={tmp_path}/b.zip", processes=3)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_two_commands_do_not_work_on_one_set(photos, tmp_path):
    with prepare.locked(tmp_path / "a.zip.partial"):
        done = run(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip")
    assert done.exit_code == 1
    assert f"another process works in {tmp_path}/a.zip.partial" in done.output


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_a_killed_command_leaves_no_process_and_goes_on(tmp_path, name):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(5 * prepare.PART):
        Image.fromarray(np.roll(PHOTO[:200, :200], i, axis=1)).save(photos / f"{i:04d}.jpg")
    out, whole = tmp_path / name, tmp_path / "whole" / name
    command = [sys.executable, "-c", "from creps_jax.cli import app; app()", "dataset"]
    command += [f"--source={photos}", "--size=96", "--processes=2"]
    process = subprocess.Popen([*command, f"--out={out}"], stdout=subprocess.DEVNULL)
    partial = tmp_path / f"{name}.partial"
    wait_until(lambda: list(partial.glob("*.zip")))
    started = children(process.pid)
    assert len(started) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(is_running, started)))
    assert not out.exists()
    kept = {path: path.stat().st_mtime_ns for path in partial.glob("*.zip")}
    output = subprocess.run([*command, f"--out={out}"], check=True, capture_output=True, text=True)
    assert (
        f"{5 * prepare.PART} images, {len(kept) * prepare.PART} of them are prepared already"
        in (output.stdout)
    )
    assert not partial.exists()
    made(f"--source={photos}", "--size=96", f"--out={whole}", processes=2)
    if name == "a.zip":
        assert out.read_bytes() == whole.read_bytes()
    else:  # TFDS stores the fields of a record in any order.
        resumed, unbroken = (open_container(f"tfds:{path}") for path in (out, whole))
        assert resumed.images() == unbroken.images()
        for image in unbroken.images():
            assert resumed.read(image) == unbroken.read(image)


def test_an_interrupted_command_goes_on(photos, tmp_path, monkeypatch):
    """Ctrl-C between two parts."""
    monkeypatch.setattr(prepare, "PART", 2)
    calls = []

    def interrupt(self, units, pixels=0):
        calls.append(units)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("creps_jax.progress.Progress.advance", interrupt)
        done = run(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip")
    assert done.exit_code != 0 and calls == [2]
    output = made(f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip")
    assert "6 images, " in output and ", 0 of them" not in output
    assert len(images(tmp_path / "a.zip")[0]) == 6


def test_a_full_disk_is_an_error_and_leaves_no_set(photos, tmp_path, monkeypatch):
    """The parts are made, then no file may be larger than one of them."""
    program = f"""
import resource
from creps_jax.cli import app
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
app(["dataset", "--source={photos}", "--size=64", "--min-size=1", "--out={tmp_path}/a.zip"])
"""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert "Error: [Errno 27] File too large" in done.stderr, done.stderr
    assert not (tmp_path / "a.zip").exists()
