"""What the tests of data share."""

from creps_jax.config import DataConfig


def data_config(source, **changes):
    """The config of 32 x 32 px RGB images without labels, that are taken as they are."""
    defaults = dict(
        source=str(source), shape=(32, 32), image_channels=3, num_classes=0, mirror=False,
        resize=False, random_crop=False, max_unreadable=0.5, max_megapixels=128.0,
        threads=2, workers=0,
    )  # fmt: skip
    return DataConfig(**(defaults | changes))
