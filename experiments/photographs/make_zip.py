"""A small training set of real photographs: crops of the two that scikit-learn carries.

    python -m experiments.photographs.make_zip --out=datasets/photographs32.zip

Crops of 96 to 256 px at random places, scaled to 32 x 32, as PNGs in a StyleGAN-style zip.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.photos import photographs


def crops(count: int, size: int, seed: int = 0):
    """Yields `count` images, size x size px, from the photographs in turn."""
    random = np.random.default_rng(seed)
    photos = photographs()
    for index in range(count):
        photograph = photos[index % len(photos)]
        side = int(random.integers(96, 257))
        left = int(random.integers(photograph.width - side + 1))
        top = int(random.integers(photograph.height - side + 1))
        box = (left, top, left + side, top + side)
        yield photograph.resize((size, size), Image.Resampling.LANCZOS, box)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--size", type=int, default=32, help="px")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(arguments.out, "w", zipfile.ZIP_STORED) as archive:
        for index, image in enumerate(crops(arguments.count, arguments.size)):
            data = io.BytesIO()
            image.save(data, "png")
            archive.writestr(f"{index // 1000:05d}/img{index:08d}.png", data.getvalue())
    print(f"{arguments.count} images of {arguments.size} x {arguments.size} px in {arguments.out}")


if __name__ == "__main__":
    main()
