"""Archives, databases and TFDS sets hold what their folder holds, and nothing leads out of them."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile

import lmdb
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from creps_jax.data.containers import files
from creps_jax.data.containers.descriptions import canonical
from creps_jax.data.containers.schemes import guess_scheme, open_container
from creps_jax.data.decode import UnreadableError
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config

SIZE = 32


def png(i, size=SIZE):
    photo, buffer = load_sample_images().images[0], io.BytesIO()
    Image.fromarray(photo[7 * i : 7 * i + size, 5 * i : 5 * i + size]).save(buffer, "png")
    return buffer.getvalue()


FILES = {f"{'ab'[i % 2]}/{i:02d}.png": png(i) for i in range(6)}


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "images"


def make_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for name, data in reversed(files.items()):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return f"tar:{path}"


def make_lmdb(path, values):
    with lmdb.open(str(path), map_size=2**24) as database, database.begin(write=True) as writing:
        for key, value in values.items():
            writing.put(key, value)
    return f"lmdb:{path}"


def test_a_tar_holds_what_its_folder_holds(folder, tmp_path):
    source = make_tar(tmp_path / "images.tar", FILES)
    archive = open_container(source)
    assert archive.images() == open_container(f"folder:{folder}").images() == sorted(FILES)
    for container in (archive, pickle.loads(pickle.dumps(archive))):
        assert {name: container.read(name) for name in container.images()} == FILES
    opened = open_source(data_config(source))
    for k, name in enumerate(sorted(FILES)):
        np.testing.assert_array_equal(opened[k]["image"], decoded(FILES[name]))


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_an_lmdb_holds_its_values(tmp_path):
    values = {f"{i:040x}".encode(): png(i) for i in range(6)}
    source = make_lmdb(tmp_path / "lmdb", values)
    database = open_container(source)
    assert database.images() == [key.decode() for key in sorted(values)]
    again = open_container(source)  # LMDB itself does not open one twice.
    for container in (database, again, pickle.loads(pickle.dumps(database))):
        for key, value in values.items():
            assert container.read(key.decode()) == value
    opened = open_source(data_config(source))
    np.testing.assert_array_equal(opened[5]["image"], decoded(png(5)))


def test_keys_that_are_no_text_are_named_by_their_bytes(tmp_path):
    database = open_container(make_lmdb(tmp_path / "lmdb", {b"\xff\x00": png(0)}))
    assert database.images() == ["0xff00"]
    assert database.read("0xff00") == png(0)


def test_no_two_keys_have_the_same_name(tmp_path):
    values = {b"\xab": png(0), b"ab": png(1), b"0xab": png(2), b"\x30xab\xff": png(3)}
    database = open_container(make_lmdb(tmp_path / "lmdb", values))
    assert len(set(database.images())) == 4
    assert sorted(map(database.read, database.images())) == sorted(values.values())


def test_an_lmdb_that_is_cut_off_is_refused_before_it_kills_the_process(tmp_path):
    source = make_lmdb(tmp_path / "lmdb", {str(i).encode(): png(i % 6) for i in range(300)})
    data = tmp_path / "lmdb" / "data.mdb"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"is cut off: \d+ of \d+ bytes; download it again"):
        open_container(source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("photos", "folder:photos"),
        ("photos.zip", "zip:photos.zip"),
        ("a/photos.TAR", "tar:a/photos.TAR"),
        ("tfds:ffhq/512", "tfds:ffhq/512"),
        ("photos.d", "folder:photos.d"),
    ],
)
def test_the_scheme_of_a_path_is_guessed(path, source):
    assert guess_scheme(path) == source


def test_the_scheme_of_a_folder_is_guessed_from_what_is_in_it(tmp_path):
    make_lmdb(tmp_path / "lmdb", {b"a": b"b"})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_info.json").write_text("{}")
    (tmp_path / "odd.zip").mkdir()
    for name, scheme in (("lmdb", "lmdb"), ("set", "tfds"), ("odd.zip", "folder")):
        assert guess_scheme(f"{tmp_path}/{name}") == f"{scheme}:{tmp_path}/{name}"


def refused(container, name):
    """Why a container does not give an image that it lists."""
    assert name in container.images()
    with pytest.raises(UnreadableError) as error:
        container.read(name)
    return str(error.value)


def test_links_are_followed_inside_the_folder_and_not_out_of_it(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(png(0))
    (folder / "inside.png").symlink_to(folder / "a" / "00.png")
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    (folder / "nowhere.png").symlink_to(folder / "none.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    container = open_container(f"folder:{folder}")
    assert container.read("inside.png") == FILES["a/00.png"]
    assert f"a link to {tmp_path}/secret.png, outside the folder" in refused(
        container, "outside.png"
    )
    for name in ("nowhere.png", "loop.png"):
        assert refused(container, canonical(name)) == "a link to nothing"


def test_what_is_no_file_is_not_read(folder):
    os.mkfifo(folder / "pipe.png")  # Reading it would wait for ever.
    assert refused(open_container(f"folder:{folder}"), "pipe.png") == "not a regular file"


@pytest.mark.parametrize("name", ["../up.png", "a/../../up.png", "/root.png", "a\\..\\up.png"])
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path, name):
    source = make_tar(tmp_path / "a.tar", {"in.png": png(0)})
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, png(1))
    for container in (open_container(source), open_container(f"zip:{tmp_path}/a.zip")):
        assert refused(container, canonical(name)) == "its name leads out of what holds it"


def test_links_in_a_tar_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("soft.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    for name in ("soft.png", "hard.png"):
        why = refused(open_container(f"tar:{tmp_path}/a.tar"), name)
        assert why == "a link or a special file in the archive"


def test_a_bomb_in_a_zip_is_not_unpacked(tmp_path, monkeypatch):
    """1 GiB of zeros in 1 MiB: refused by its size, and if it lies about that, at that size."""
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("bomb.png", "w", force_zip64=True) as member,
    ):
        for _ in range(1024):
            member.write(bytes(2**20))
    program = f"""
import resource, sys
from creps_jax.data.containers.schemes import open_container
from creps_jax.data.decode import UnreadableError
container = open_container("zip:{path}")
member = container._members["bomb.png"]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for size in (member.size, 1000):
    container._members["bomb.png"] = member._replace(size=size)
    try:
        container.read("bomb.png")
    except UnreadableError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    large, lying, used_mib = done.stdout.splitlines()
    assert large == "1024 MiB are more than the 768 of an image"
    assert lying == "damaged in the archive: its checksum is wrong"
    assert int(used_mib) < 50


def test_large_files_are_refused_everywhere(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 100)
    for source in (
        f"folder:{folder}",
        make_tar(tmp_path / "a.tar", FILES),
        make_lmdb(tmp_path / "lmdb", {b"k": png(0)}),
    ):
        container = open_container(source)
        assert "MiB are more than" in refused(container, container.images()[0])


def test_tars_that_cannot_be_read(tmp_path):
    for content in (b"no archive", b""):
        (tmp_path / "text.tar").write_bytes(content)
        with pytest.raises(ValueError, match=r"text\.tar is not a tar archive"):
            open_container(f"tar:{tmp_path}/text.tar")
    with tarfile.open(tmp_path / "zipped.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(ValueError, match=r"zipped\.tar .* is compressed \(unpack it first"):
        open_container(f"tar:{tmp_path}/zipped.tar")
    source = make_tar(tmp_path / "cut.tar", FILES)
    with tarfile.open(tmp_path / "cut.tar") as archive:
        last = archive.getmembers()[-1]
    os.truncate(tmp_path / "cut.tar", last.offset_data + 9)
    with pytest.raises(ValueError, match=r"cut\.tar .* its end is cut off"):
        open_container(source)


def test_tfds_sets_that_cannot_be_read(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="tfds:nothing_such is neither a set that TFDS knows"):
        open_container("tfds:nothing_such")
    with pytest.raises(ValueError, match=r"tfds:mnist is not prepared in .*array_record"):
        open_container("tfds:mnist")

    class Sounds(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"sound": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {self.split: self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"sound": "miaow"}

    for split, why in (("train", "has no feature 'image'"), ("test", "has no split 'train'")):
        Sounds.split = split
        builder = Sounds(data_dir=tmp_path / split, file_format="array_record")
        builder.download_and_prepare(download_dir=tmp_path / "downloads")
        with pytest.raises(ValueError, match=why):
            open_container(f"tfds:{builder.data_dir}")
