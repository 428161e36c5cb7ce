"""Flickr-Faces-HQ."""

import pathlib
from typing import ClassVar

from creps_jax.data.containers.files import Folder
from creps_jax.data.containers.schemes import Container
from creps_jax.data.preparation.builders.manual import (
    Config,
    Entry,
    ManualImages,
    check_present,
    read_json,
)

METADATA = "ffhq-dataset-v2.json"
THUMBNAIL_PX = 128  # The publishers' own reductions have this size.


class Ffhq(ManualImages):
    """70,000 aligned faces; all of them are trained on, as in the paper."""

    BUILDER_CONFIGS: ClassVar = [
        Config(resolution) for resolution in (1024, 512, 256, THUMBNAIL_PX)
    ]
    COUNT = 70000
    DESCRIPTION = "Photographs of human faces from Flickr, aligned and cropped, 1024 x 1024."
    HOMEPAGE = "https://github.com/NVlabs/ffhq-dataset"
    LICENCE = (
        "Each image is under its author's licence (CC BY 2.0, CC BY-NC 2.0, CC0 1.0, Public Domain "
        "Mark 1.0 or U.S. Government Works; it is in 'credit'), the set under CC BY-NC-SA 4.0 by "
        "NVIDIA Corporation: for non-commercial use, with credit. https://github.com/NVlabs/"
        "ffhq-dataset"
    )
    CITATION = """@inproceedings{karras2019style,
  title={A Style-Based Generator Architecture for Generative Adversarial Networks},
  author={Karras, Tero and Laine, Samuli and Aila, Timo},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2019}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {METADATA} and the folder images1024x1024 (89 GB; for {THUMBNAIL_PX} px, "
        f"thumbnails128x128) from {HOMEPAGE} into one FOLDER."
    )

    def entries(self, folder: pathlib.Path) -> tuple[Container, list[Entry]]:
        path = folder / METADATA
        records = read_json(path, self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        of = "thumbnail" if self.builder_config.resolution == THUMBNAIL_PX else "image"
        try:
            entries = [
                Entry(
                    record[of]["file_path"],
                    record[of]["file_md5"],
                    "{author}, {license_url}, {photo_url}".format(**record["metadata"]),
                )
                for _, record in sorted(records.items(), key=lambda item: int(item[0]))
            ]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} does not have the published form: {type(error).__name__} {error}"
            ) from error
        check_present(folder, entries)
        return Folder(str(folder)), entries
