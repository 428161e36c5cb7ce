"""The official implementation's numbers, as the parity tests read them."""

import functools
import os
import pathlib

import numpy as np

from creps_jax.interop import official

DIRECTORY = pathlib.Path(
    os.environ.get("CREPS_PARITY_DIR", pathlib.Path(__file__).parents[1] / "parity")
)

# Relative to each array's largest value: ten times what a plain float32 program reaches.
TOLERANCE = {
    "image": 3e-5,
    "logits": 1.4e-5,
    "loss": 1.3e-5,
    "gradient": 7e-5,
    "r1_gradient": 6e-4,
    "steps": 3e-5,
    "augment": 6e-5,
}

D_RESULTS = {"logits_out", "input_grad", "r1_penalty_per_image"}


class Arrays:
    """One .npz file: entries by name, and groups of entries by prefix."""

    def __init__(self, name):
        with np.load(DIRECTORY / f"{name}.npz") as file:
            self.entries = {key: file[key] for key in file.files}

    def __getitem__(self, key):
        return self.entries[key]

    def group(self, prefix):
        """The entries under a prefix, without it."""
        return {k[len(prefix) :]: v for k, v in self.entries.items() if k.startswith(prefix)}

    def config(self, key):
        value = float(self.entries[f"config/{key}"])
        return int(value) if value.is_integer() else value

    def generator(self, prefix="G/"):
        return official.generator_from_arrays(self.group(prefix))

    def discriminator(self, prefix="D/"):
        weights = {k: v for k, v in self.group(prefix).items() if k not in D_RESULTS}
        return official.discriminator_from_arrays(weights, self.config("mbstd_group_size"))


@functools.cache
def load(name):
    return Arrays(name)


def nhwc(images):
    return np.transpose(images, (0, 2, 3, 1))


def disagreement(ours, theirs):
    """Largest difference, relative to the largest official value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
