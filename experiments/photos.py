"""Two real photographs, which scikit-learn carries."""

import sys

from PIL import Image

try:
    from sklearn.datasets import load_sample_images
except ModuleNotFoundError:
    sys.exit("Error: photographs need scikit-learn: pip install 'creps-jax[experiments]'")


def photographs() -> list[Image.Image]:
    """A temple and a flower, RGB, 640 x 427 px."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]
