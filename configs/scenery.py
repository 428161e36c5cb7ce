"""Flickr-Scenery at 256 x 256.

python -m creps_jax.main --config=configs/scenery.py --workdir=runs/scenery

The images: download those of https://github.com/yccyenchicheng/InOut, and
  creps build flickr_scenery/256 --manual-dir=FOLDER
Their shorter side is then 256 px; --config.data.random_crop=True takes any square of them, not the
one in the middle. The paper trained on 8 GPUs and reached a FID of 7.21.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The paper's settings for this data set."""
    config = default.get_config()
    config.resolution = 256
    config.data.source = "tfds:flickr_scenery/256"
    config.data.resize = True
    config.data.mirror = False
    config.recipe.r1_gamma = 2.0
    return config
