"""Procedural scenes at 64 x 64 by the paper's recipe: the network that comes with the program.

python -m creps_jax.main --config=configs/scenes.py --workdir=runs/scenes

About 45 seconds a kimg on 2 CPU cores alone; what is shipped has seen 90 kimg. fd_lite falls from
342 at 10 kimg to 135: see experiments/README.md. No download.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """A small network, and scenes that never come twice."""
    config = default.get_config()
    config.total_kimg = 400.0
    config.batch_size = 16
    config.resolution = 64
    config.data.source = "procedural:1000000"
    config.data.mirror = False
    config.data.threads = 1
    config.generator.z_dim = 128
    config.generator.w_dim = 128
    config.generator.channel_base = 8192
    config.generator.channel_max = 96
    config.generator.biline_channels = 16
    config.generator.thickness = 4
    config.generator.bandwidth = 5.0
    config.discriminator.channel_base = 2048
    config.discriminator.channel_max = 96
    config.recipe.r1_gamma = 0.1
    config.recipe.power_averages = True
    config.augment.kind = "none"
    config.evaluate.every_kimg = 10.0  # Snapshots, which experiments.scenes measures.
    config.report.every_kimg = 1.0
    config.report.grid_every_kimg = 10.0
    config.checkpoint.every_kimg = 4.0
    return config
