"""LSUN-Church at 256 x 256.

python -m creps_jax.main --config=configs/church.py --workdir=runs/church

The images: download church_outdoor_train_lmdb.zip (https://github.com/fyu/lsun), unpack it, and
  creps build lsun_church/256 --manual-dir=FOLDER
The paper trained on 8 GPUs and reached a FID of 5.50.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The paper's settings for this data set."""
    config = default.get_config()
    config.resolution = 256
    config.data.source = "tfds:lsun_church/256"
    config.data.mirror = False
    config.recipe.r1_gamma = 2.0
    return config
