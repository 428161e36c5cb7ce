"""InceptionV3 gives torch-fidelity's numbers, by weights that the names stand for."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax import devices, sharding
from creps_jax.evaluation import inception
from experiments import official_files
from tests.helpers import parity_arrays

TOLERANCE = 1e-5  # of each array's largest value
FEATURES = {"64", "192", "768", "2048", "logits_unbiased"}


def entries(tree):
    """Names and shapes in the port's file of the network with these variables."""
    for path, array in jax.tree_util.tree_leaves_with_path(tree):
        _, *place, part = [key.key for key in path]
        name = ".".join(place)
        if name == "fc":
            yield "fc.weight", array.shape[::-1]
            yield "fc.bias", array.shape[1:]
        elif part == "kernel":
            yield f"{name}.conv.weight", tuple(array.shape[axis] for axis in (3, 2, 0, 1))
        else:
            for of_norm in ("weight", "bias", "running_mean", "running_var"):
                yield f"{name}.bn.{of_norm}", array.shape


def made(name, shape):
    """The weights that both sides make of an entry's name: float32."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("bn.weight", "running_var")):
        array = random.uniform(0.5, 1.5, shape)
    elif name.endswith(("bias", "running_mean")):
        array = random.normal(size=shape) * 0.1
    else:
        array = random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    return array.astype(np.float32)


@pytest.fixture(scope="module")
def shapes():
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.uint8)
    return dict(entries(jax.eval_shape(inception.InceptionV3().init, jax.random.key(0), image)))


@pytest.fixture(scope="module")
def network(shapes, tmp_path_factory):
    """The network with the weights of a file as torch.save writes it."""
    arrays = {name: made(name, shape) for name, shape in shapes.items()}
    arrays["Conv2d_1a_3x3.bn.num_batches_tracked"] = np.asarray(7)
    path = tmp_path_factory.mktemp("inception") / "a.pth"
    path.write_bytes(official_files.legacy(official_files.state_dict(arrays), arrays))
    module, variables = inception.load(inception.find(path))
    path.unlink()  # It is large.
    options = sharding.compiler_options(sharding.make_mesh())
    return lambda images: jax.jit(module.apply, compiler_options=options)(variables, images)


@pytest.mark.parity
def test_the_entries_are_those_of_the_port(shapes):
    assert shapes.keys() == set(parity_arrays.load("inception")["names"].tolist())


@pytest.mark.parity
@pytest.mark.parametrize("i", [0, 1])
def test_all_features_agree_with_the_port(network, i):
    arrays = parity_arrays.load("inception")
    expected = arrays.group(f"features_{i}/")
    found = network(parity_arrays.nhwc(arrays[f"images_{i}"]))
    assert found.keys() == expected.keys() == FEATURES
    for name in FEATURES:
        assert parity_arrays.disagreement(found[name], expected[name]) < TOLERANCE, name


def test_grey_images_are_seen_as_three_equal_channels():
    grey = np.random.default_rng(0).integers(0, 256, (1, 40, 31, 1), np.uint8)
    x = inception.as_input(grey)
    assert x.shape == (1, 299, 299, 3) and x.dtype == jnp.float32
    np.testing.assert_array_equal(x, inception.as_input(np.repeat(grey, 3, axis=-1)))


@pytest.mark.parametrize("side", [1, 299, 598])
def test_pixels_that_lie_on_those_of_the_image_are_these(side):
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    at = np.arange(299) * side // 299
    seen = (image[:, at][:, :, at].astype(np.float32) - 128) / 128
    np.testing.assert_array_equal(inception.as_input(image), seen)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"fc.bias": (3,)}, r"entry Conv2d_1a_3x3.bn.\w+ is missing"),
        (
            {"Conv2d_1a_3x3.bn.weight": (1, 32)},
            r"entry Conv2d_1a_3x3.bn.weight has shape \(1, 32\), expected \(32,\)",
        ),
    ],
)
def test_weights_that_are_others_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **{k: np.ones(s, np.float32) for k, s in arrays.items()})
    with pytest.raises(ValueError, match=f"a.npz: {message}"):
        inception.load(tmp_path / "a.npz")


def test_weights_that_are_not_finite_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", **{"Conv2d_1a_3x3.bn.weight": np.full(32, np.nan, np.float32)})
    with pytest.raises(ValueError, match=r"a.npz: entry Conv2d_1a_3x3.bn.weight has numbers that"):
        inception.load(tmp_path / "a.npz")


def test_weights_that_nobody_gives_are_the_public_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = devices.cache_folder() / "pt_inception-2015-12-05-6726825d.pth"
    file.touch()
    assert inception.find() == file
