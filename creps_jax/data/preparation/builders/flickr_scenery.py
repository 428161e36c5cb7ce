"""Flickr-Scenery."""

import pathlib
from typing import ClassVar

from PIL import Image

from creps_jax.data.containers.schemes import Container, open_container
from creps_jax.data.decode import cover
from creps_jax.data.preparation.builders.manual import Config, Entry, ManualImages


class FlickrScenery(ManualImages):
    """54,710 landscapes of many shapes: their shorter side is the resolution.

    Training takes the square in the middle, or with data.random_crop any of them.
    """

    BUILDER_CONFIGS: ClassVar = [Config(256)]
    COUNT = 54710
    DESCRIPTION = "Landscape photographs from Flickr, of varied sizes; the shorter side reduced."
    HOMEPAGE = "https://github.com/yccyenchicheng/InOut"
    LICENCE = (
        "The photographs belong to their authors on Flickr: read https://github.com/yccyenchicheng/"
        "InOut before you use them for more than research."
    )
    CITATION = """@inproceedings{cheng2022inout,
  title={In&Out: Diverse Image Outpainting via GAN Inversion},
  author={Cheng, Yen-Chi and Lin, Chieh Hubert and Lee, Hsin-Ying and Ren, Jian and Tulyakov,
    Sergey and Yang, Ming-Hsuan},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2022}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download the images of Flickr-Scenery (3.5 GB) from {HOMEPAGE} and unpack them into "
        "FOLDER; its sub-folders are read too."
    )

    def entries(self, folder: pathlib.Path) -> tuple[Container, list[Entry]]:
        try:
            container = open_container(f"folder:{folder}")
        except ValueError as error:
            raise ValueError(f"{error}. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}") from error
        return container, [Entry(name) for name in container.images()]

    def resize(self, image: Image.Image) -> Image.Image:
        size = self.builder_config.resolution
        return cover(image, size, size)

    def image_shape(self) -> tuple[int | None, int | None, int]:
        return (None, None, 3)
