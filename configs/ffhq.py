"""FFHQ at 512 x 512.

python -m creps_jax.main --config=configs/ffhq.py --workdir=runs/ffhq

The images as a zip or a folder of 512 x 512 pictures: --config.data.source=zip:PATH or folder:PATH,
with --config.data.resize=True if they have other sizes. The paper trained on 8 GPUs and reached
a FID of 4.43.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The paper's settings for this data set."""
    config = default.get_config()
    config.resolution = 512
    config.data.source = "zip:datasets/ffhq512.zip"
    config.data.mirror = True
    config.recipe.r1_gamma = 8.2
    return config
