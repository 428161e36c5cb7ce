"""Small trees of the forms in which the publishers of the paper's data sets hand them out."""

import hashlib
import io
import json

import lmdb
from PIL import Image
from sklearn.datasets import load_sample_images

COUNT = 3


def picture(i, height, width):
    photo = load_sample_images().images[i % 2]
    return Image.fromarray(photo[9 * i : 9 * i + height, 5 * i : 5 * i + width])


def encoded(image, file_format):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **({} if file_format == "png" else {"quality": 90}))
    return buffer.getvalue()


def put(root, name, data):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)
    return {"path": name, "md5": hashlib.md5(data).hexdigest()}


def publish_ffhq(root):
    metadata = {}
    for i in (2, 10, 0):  # As text, 10 comes before 2.
        faces = {
            key: put(root, f"{folder}/00000/{i:05d}.png", encoded(picture(i, size, size), "png"))
            for key, folder, size in (
                ("image", "images1024x1024", 300),
                ("thumbnail", "thumbnails128x128", 128),
            )
        }
        metadata[str(i)] = {
            "category": "training",
            "metadata": {"author": f"Author {i}", "license_url": "L", "photo_url": "U"},
            **{
                key: {"file_path": face["path"], "file_md5": face["md5"]}
                for key, face in faces.items()
            },
        }
    (root / "ffhq-dataset-v2.json").write_text(json.dumps(metadata))
    return [picture(i, 300, 300) for i in (0, 2, 10)]


def publish_metfaces(root):
    records = []
    for i in range(COUNT):
        face = put(root, f"images/{i}-00.png", encoded(picture(i, 300, 300), "png"))
        records.append(
            {
                "obj_id": str(i),
                "meta_url": "U",
                "image_path": face["path"],
                "image_md5": face["md5"],
                "title": f"Title {i}",
                "artist_display_name": "Artist",
            }
        )
    (root / "metfaces.json").write_text(json.dumps(records))
    return [picture(i, 300, 300) for i in range(COUNT)]


def publish_lsun_church(root):
    path = root / "church_outdoor_train_lmdb"
    path.mkdir(parents=True)
    files = [encoded(picture(i, 256, 340), "webp") for i in range(COUNT)]
    keys = sorted(hashlib.sha1(bytes([i])).hexdigest().encode() for i in range(COUNT))
    with lmdb.open(str(path), map_size=2**24) as database, database.begin(write=True) as writing:
        for key, data in zip(keys, files, strict=True):
            writing.put(key, data)
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in files]


def publish_flickr_scenery(root):
    files = [encoded(picture(i, 280 + i, 390), "jpeg") for i in range(COUNT)]
    for i, data in enumerate(files):
        put(root, f"part{i % 2}/{i}.jpg", data)
    return [Image.open(io.BytesIO(files[i])) for i in (0, 2, 1)]  # As the paths are sorted.


PUBLISH = {
    "ffhq": publish_ffhq,
    "metfaces": publish_metfaces,
    "lsun_church": publish_lsun_church,
    "flickr_scenery": publish_flickr_scenery,
}
