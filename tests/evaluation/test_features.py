"""The feature network gives another implementation's numbers, and knows a flower."""

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from creps_jax.evaluation import features
from creps_jax.interop import weights
from tests.helpers import parity_arrays

TOLERANCE = 1e-5  # of each array's largest value
STAGES = ("stem", "block2", "block4", "block10", "block15", "head", "logits")


@pytest.fixture(scope="module")
def network():
    module, variables = features.load()
    return lambda x: jax.jit(module.apply)(variables, x)


@pytest.mark.parity
@pytest.mark.parametrize("images", ["photos", "noise"])
def test_all_stages_agree_with_another_implementation(network, images):
    arrays = parity_arrays.load("efficientnet_lite0").group(f"{images}/")
    assert arrays.keys() == {"x", *STAGES}
    found = network(parity_arrays.nhwc(arrays["x"]))
    for name in STAGES:
        expected = arrays[name]
        expected = parity_arrays.nhwc(expected) if expected.ndim == 4 else expected
        assert parity_arrays.disagreement(found[name], expected) < TOLERANCE, name


def test_a_daisy_is_a_daisy_and_a_temple_a_building(network):
    """Class 985 of ImageNet, and one of its towers, palaces and monasteries."""
    temple, flower = (
        np.asarray(Image.fromarray(photo).resize((224, 224), Image.Resampling.BICUBIC))
        for photo in load_sample_images().images
    )
    logits = network(features.as_input(np.stack([temple, flower])))["logits"]
    assert logits.shape == (2, 1000)
    assert int(logits[1].argmax()) == 985 and int(logits[0].argmax()) in (442, 663, 698)


def test_grey_images_are_seen_as_three_equal_channels(network):
    grey = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1), np.uint8)
    x = features.as_input(grey)
    np.testing.assert_array_equal(x, features.as_input(np.repeat(grey, 3, axis=-1)))
    assert (float(x.min()), float(x.max())) == (-127 / 128, 1.0)


def test_weights_that_are_others_are_named(tmp_path):
    arrays = {k: np.asarray(a) for k, a in weights.read_arrays(features.installed()).items()}
    for changes, message in (
        ({"_fc.bias": np.zeros(3, np.float32)}, r"_fc.bias has shape \(3,\), expected \(1000,\)"),
        ({"_fc.bias": None}, "_fc.bias is missing"),
    ):
        changed = {k: a for k, a in (arrays | changes).items() if a is not None}
        np.savez(tmp_path / "a.npz", **changed)
        with pytest.raises(ValueError, match=f"a.npz: entry {message}"):
            features.load(tmp_path / "a.npz")
