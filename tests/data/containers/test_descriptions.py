"""Labels find their images in archives and folders as people's tools make them."""

import io
import json
import logging
import tarfile
import unicodedata
import zipfile

import pytest
from PIL import Image

from creps_jax.data.containers.descriptions import canonical, match
from creps_jax.data.containers.schemes import open_container
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config


def png(i):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (i, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def description(labels):
    return json.dumps({"labels": labels}).encode()


def pack(kind, root, files):
    """The files, (name, content) each, in a container of the kind; the source that it is."""
    if kind == "folder":
        for name, data in files:
            path = root / "folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return f"folder:{root}/folder"
    if kind == "zip":
        with zipfile.ZipFile(root / "a.zip", "w") as archive:
            for name, data in files:
                archive.writestr(name, data)
        return f"zip:{root}/a.zip"
    with tarfile.open(root / "a.tar", "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return f"tar:{root}/a.tar"


def labels_of(source):
    """The red of each image, which is its number -> its label in training."""
    opened = open_source(data_config(source, num_classes=9))
    return {int(opened[i]["image"][0, 0, 0]): int(opened[i]["label"]) for i in range(len(opened))}


TWO = {0: 3, 1: 5}
NFC, NFD = (
    unicodedata.normalize(form, "\N{LATIN SMALL LETTER A WITH DIAERESIS}.png")
    for form in ("NFC", "NFD")
)
# Names of two images, where the labels lie, and the names there.
FORMS = {
    "plain": (("a/0.png", "b/1.png"), "dataset.json", ("a/0.png", "b/1.png")),
    "a top folder": (("my/0.png", "my/1.png"), "my/dataset.json", ("0.png", "1.png")),
    "from the root": (("my/0.png", "my/1.png"), "my/dataset.json", ("my/0.png", "my/1.png")),
    "two folders": (("x/y/0.png", "x/y/1.png"), "x/y/dataset.json", ("0.png", "1.png")),
    "other spellings": (("a/0.png", "1.png"), "dataset.json", (".//a/./0.png", "./1.png")),
    "backslashes": (("a/0.png", "1.png"), "dataset.json", ("a\\0.png", "1.png")),
    "NFC for NFD": ((NFD, "1.png"), "dataset.json", (NFC, "1.png")),
    "NFD for NFC": ((NFC, "1.png"), "dataset.json", (NFD, "1.png")),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("form", FORMS)
def test_labels_find_their_images(tmp_path, kind, form):
    (first, second), file, (one, other) = FORMS[form]
    labels = description([[one, 3], [other, 5]])
    source = pack(kind, tmp_path, [(first, png(0)), (second, png(1)), (file, labels)])
    assert labels_of(source) == TWO


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_in_archives_are_told_in_one_spelling(tmp_path, kind):
    files = [("my\\a\\0.png", png(0)), ("./my//1.png", png(1))]
    labels = description([["a/0.png", 3], ["1.png", 5]])
    source = pack(kind, tmp_path, [*files, ("my\\dataset.json", labels)])
    assert open_container(source).images() == ["my/1.png", "my/a/0.png"]
    assert labels_of(source) == TWO


def test_names_in_utf_8_are_read_without_the_zips_word_for_it(tmp_path):
    class Silent(zipfile.ZipInfo):
        """As many tools write: UTF-8, and no flag."""

        def _encodeFilenameFlags(self):
            return self.filename.encode(), 0

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(Silent(NFC), png(0))
        archive.writestr("dataset.json", description([[NFC, 3]]))
    assert open_container(f"zip:{tmp_path}/a.zip").images() == [NFC]
    assert labels_of(f"zip:{tmp_path}/a.zip") == {0: 3}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["a/0.png", "a\\0.png", "dataset.json"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_stored_twice_is_refused_by_name(tmp_path, kind, name):
    files = [("a/0.png", png(0)), ("dataset.json", description([])), (name, png(1))]
    with pytest.raises(ValueError, match=f"{canonical(name)} is stored twice in "):
        open_container(pack(kind, tmp_path, files))


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_name_with_two_labels_is_refused_and_with_the_same_twice_is_right(tmp_path, kind):
    files = [("0.png", png(0)), ("1.png", png(1))]
    for labels, expected in (
        ([["0.png", 3], ["./0.png", 3], ["1.png", 5]], TWO),
        ([["0.png", 3], ["./0.png", 4], ["1.png", 5]], "0.png has two labels, 3 and 4"),
    ):
        source = pack(kind, tmp_path, [*files, ("dataset.json", description(labels))])
        if expected is TWO:
            assert labels_of(source) == TWO
        else:
            with pytest.raises(ValueError, match=expected):
                labels_of(source)
    twice = b'{"labels": {"0.png": 3, "1.png": 5, "0.png": 4}}'
    with pytest.raises(ValueError, match=r"'0\.png' is there more than once"):
        labels_of(pack(kind, tmp_path, [*files, ("dataset.json", twice)]))


def test_a_name_that_may_mean_two_images_is_refused(tmp_path):
    files = [("a/0.png", png(0)), ("a\\0.png", png(1))]
    labels = ("dataset.json", description([["./a/0.png", 3]]))
    with pytest.raises(ValueError, match=r"'\./a/0\.png' may mean 'a/0\.png' or 'a\\\\0\.png'"):
        labels_of(pack("folder", tmp_path, [*files, labels]))
    assert match([("a/0.png", 3), ("a\\0.png", 5)], ["a/0.png", "a\\0.png"]).labels == {
        "a/0.png": 3,
        "a\\0.png": 5,
    }


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_labels_of_a_part_of_the_images_are_no_labels_of_the_set_and_are_told(tmp_path, kind):
    part = [("cats/0.png", png(0)), ("cats/dataset.json", description([["0.png", 3]]))]
    source = pack(kind, tmp_path, [*part, ("dogs/1.png", png(1))])
    with pytest.raises(ValueError, match=r"cats/dataset\.json has labels, but only of images in"):
        labels_of(source)
    assert len(open_source(data_config(source))) == 2


@pytest.mark.parametrize("content", [b"[]", b'{"labels": null}', b"{"])
def test_other_peoples_dataset_json_in_a_part_is_no_matter(tmp_path, content):
    files = [("cats/0.png", png(0)), ("cats/dataset.json", content), ("dogs/1.png", png(1))]
    assert open_container(pack("folder", tmp_path, files)).labels() is None


def test_labels_of_images_that_are_not_there_are_told(tmp_path, caplog):
    labels = description([["0.png", 3], ["1.png", 5], ["gone.png", 1]])
    files = [("0.png", png(0)), ("1.png", png(1)), ("dataset.json", labels)]
    with caplog.at_level(logging.WARNING):
        assert labels_of(pack("zip", tmp_path, files)) == TWO
    assert "also of 1 files that are no images here, such as gone.png" in caplog.text
