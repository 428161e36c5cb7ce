"""Flickr-Scenery at 256 x 256.

python -m creps_jax.main --config=configs/scenery.py --workdir=runs/scenery

The images as a zip or a folder of 256 x 256 pictures: --config.data.source=zip:PATH or folder:PATH,
with --config.data.resize=True if they have other sizes. The paper trained on 8 GPUs and reached
a FID of 7.21.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The paper's settings for this data set."""
    config = default.get_config()
    config.resolution = 256
    config.data.source = "zip:datasets/scenery256.zip"
    config.data.mirror = False
    config.recipe.r1_gamma = 2.0
    return config
