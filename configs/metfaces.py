"""MetFaces at 1024 x 1024.

python -m creps_jax.main --config=configs/metfaces.py --workdir=runs/metfaces

The images: download metfaces.json and images from https://github.com/NVlabs/metfaces-dataset, and
  creps build metfaces/1024 --manual-dir=FOLDER
The paper trained on 8 GPUs and reached a FID of 20.52, starting from the weights of its FFHQ run.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The paper's settings for this data set."""
    config = default.get_config()
    config.resolution = 1024
    config.data.source = "tfds:metfaces/1024"
    config.data.mirror = True
    config.recipe.r1_gamma = 6.6
    return config
