"""LSUN-Church."""

import pathlib
from typing import ClassVar

from creps_jax.data.containers.databases import Lmdb
from creps_jax.data.containers.schemes import Container
from creps_jax.data.preparation.builders.manual import Config, Entry, ManualImages

DATABASE = "church_outdoor_train_lmdb"


class LsunChurch(ManualImages):
    """126,227 photographs of churches: the training images of LSUN's class church_outdoor."""

    BUILDER_CONFIGS: ClassVar = [Config(resolution) for resolution in (256, 128)]
    COUNT = 126227
    DESCRIPTION = "Photographs of churches; the square in the middle of each, reduced."
    HOMEPAGE = "https://www.yf.io/p/lsun"
    LICENCE = (
        "The photographs belong to their authors, the publishers state no licence for them: read "
        "https://www.yf.io/p/lsun before you use them for more than research."
    )
    CITATION = """@article{yu2015lsun,
  title={LSUN: Construction of a Large-scale Image Dataset using Deep Learning with Humans in the
    Loop},
  author={Yu, Fisher and Seff, Ari and Zhang, Yinda and Song, Shuran and Funkhouser, Thomas and
    Xiao, Jianxiong},
  journal={arXiv preprint arXiv:1506.03365},
  year={2015}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {DATABASE}.zip (2.3 GB) with the program at https://github.com/fyu/lsun and "
        "unpack it into FOLDER."
    )

    def entries(self, folder: pathlib.Path) -> tuple[Container, list[Entry]]:
        inside = folder / DATABASE
        try:
            database = Lmdb(str(inside if inside.exists() else folder))
        except ValueError as error:
            raise ValueError(f"{error}. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}") from error
        return database, [Entry(name) for name in database.images()]
