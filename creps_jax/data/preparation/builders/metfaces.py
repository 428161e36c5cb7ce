"""MetFaces."""

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

METADATA = "metfaces.json"


class Metfaces(ManualImages):
    """1,336 aligned faces from works of art."""

    BUILDER_CONFIGS: ClassVar = [Config(resolution) for resolution in (1024, 512, 256)]
    COUNT = 1336
    DESCRIPTION = "Human faces from works of art of the Metropolitan Museum, 1024 x 1024."
    HOMEPAGE = "https://github.com/NVlabs/metfaces-dataset"
    LICENCE = (
        "The works' pictures are CC0 1.0 by the Metropolitan Museum of Art, the set is under CC "
        "BY-NC 2.0 by NVIDIA Corporation: for non-commercial use, with credit. https://github.com/"
        "NVlabs/metfaces-dataset"
    )
    CITATION = """@inproceedings{karras2020training,
  title={Training Generative Adversarial Networks with Limited Data},
  author={Karras, Tero and Aittala, Miika and Hellsten, Janne and Laine, Samuli and Lehtinen,
    Jaakko and Aila, Timo},
  booktitle={Advances in Neural Information Processing Systems},
  year={2020}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {METADATA} and the folder images (1.6 GB) from {HOMEPAGE} into one FOLDER."
    )

    def entries(self, folder: pathlib.Path) -> tuple[Container, list[Entry]]:
        path = folder / METADATA
        records = read_json(path, self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        try:
            entries = [
                Entry(
                    record["image_path"],
                    record["image_md5"],
                    "{artist_display_name}: {title}, {meta_url}".format(**record),
                )
                for record in records
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path} does not have the published form: {type(error).__name__} {error}"
            ) from error
        check_present(folder, entries)
        return Folder(str(folder)), entries
