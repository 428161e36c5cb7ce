"""Augmentation: how often, how far, how smoothly; parity with the official numbers is elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax.training import augment
from creps_jax.training.augment import Amounts

COUNT = 20000
MOVES = ("flip", "turns", "integer_shift", "log2_scale", "rotation", "log2_stretch", "shift")


def none_of(count):
    """Amounts that leave images as they are."""
    return Amounts(
        *(jnp.zeros((count, 2) if "shift" in name else (count,)) for name in Amounts._fields)
    )


def some_of(**amounts):
    """Amounts of one image, the others 0."""
    return none_of(1)._replace(
        **{name: jnp.asarray([value], jnp.float32) for name, value in amounts.items()}
    )


def images_of(count, height, width, channels=3):
    random = np.random.default_rng(0)
    return random.uniform(-1, 1, (count, height, width, channels)).astype(np.float32)


augmented = jax.jit(augment.augment)
drawn = jax.jit(augment.draw, static_argnums=1)


def test_compiled_as_a_whole_it_computes_what_it_computes_by_operation():
    """A sample's corner and weights agree however the compiler joins what they are made of."""
    images, amounts = images_of(4, 128, 128), drawn(jax.random.key(0), 4, 0.8)
    optimised = {"xla_backend_optimization_level": 3}  # Tests compile with less.
    whole = jax.jit(augment.augment, compiler_options=optimised)(images, amounts)
    np.testing.assert_allclose(whole, augment.augment(images, amounts), atol=1e-4)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_each_operation_happens_with_probability_p(p):
    amounts = drawn(jax.random.key(0), COUNT, p)
    shares = {
        name: np.mean(np.any(np.reshape(amount, (COUNT, -1)) != 0, axis=1))
        for name, amount in amounts._asdict().items()
    }
    rotated = np.mean((amounts.rotation != 0) | (amounts.rotation_after != 0))
    expected = dict.fromkeys(shares, p)
    # One of two is no flip, one of four no turn.
    expected |= {"flip": p / 2, "luma_flip": p / 2, "turns": 3 * p / 4}
    expected |= dict.fromkeys(("rotation", "rotation_after"), 1 - np.sqrt(1 - p))
    for name, share in shares.items():
        assert abs(share - expected[name]) < 0.015, name
    assert abs(rotated - p) < 0.015


def test_amounts_have_their_distributions():
    a = drawn(jax.random.key(1), COUNT, 1.0)
    for amount, std in (
        *((a.log2_scale, 0.2), (a.log2_stretch, 0.2), (a.shift, 0.125), (a.brightness, 0.2)),
        *((a.log2_contrast, 0.5), (a.log2_saturation, 1.0)),
    ):
        assert abs(np.mean(amount)) < 0.03 * std and abs(np.std(amount) / std - 1) < 0.02
    for amount, most in ((a.integer_shift, 0.125), (a.rotation, np.pi), (a.hue, np.pi)):
        assert abs(np.max(amount) / most - 1) < 0.01 and abs(np.min(amount) / most + 1) < 0.01
        assert abs(np.std(amount) * np.sqrt(3) / most - 1) < 0.02
    assert set(np.unique(a.flip)) == set(np.unique(a.luma_flip)) == {0, 1}
    assert set(np.unique(a.turns)) == {0, 1, 2, 3}
    independent = np.corrcoef([np.reshape(x, (COUNT, -1))[:, -1] for x in a])
    assert np.abs(independent - np.eye(len(independent))).max() < 0.04


def test_nothing_and_whole_pixels_are_exact():
    images = images_of(2, 12, 20)
    np.testing.assert_allclose(augmented(images, none_of(2)), images, atol=2e-6)
    shift = none_of(2)._replace(integer_shift=jnp.full((2, 2), 0.1))  # 2 and 1 px
    moved = augmented(images, shift)
    np.testing.assert_allclose(moved[:, 1:, 2:], images[:, :-1, :-2], atol=2e-6)
    # What comes in is the reflection, the edge not repeated.
    np.testing.assert_allclose(moved[:, 0, 2:], images[:, 1, :-2], atol=2e-6)
    np.testing.assert_allclose(moved[:, 1:, 0], images[:, :-1, 2], atol=2e-6)


def test_each_image_has_its_own_amounts():
    images = images_of(3, 8, 8)
    amounts = drawn(jax.random.key(2), 3, 1.0)
    together = augmented(images, amounts)
    for i in range(3):
        alone = augmented(images[i : i + 1], jax.tree.map(lambda x, i=i: x[i : i + 1], amounts))
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)


def smooth(height, width):
    """A picture without fine detail, and where it is at given points about its centre."""

    def at(x, y):
        colours = [np.sin(0.11 * x + 0.3 * c) * np.cos(0.07 * y - 0.2 * c) for c in range(3)]
        return np.stack(colours, -1).astype(np.float32)

    y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (height, width)), indexing="ij")
    return at, x, y


@pytest.mark.parametrize(
    "amounts, where",
    [
        ({"flip": 1}, lambda x, y: (-x, y)),
        ({"turns": 1}, lambda x, y: (-y, x)),
        ({"log2_scale": 0.5}, lambda x, y: (x / 2**0.5, y / 2**0.5)),
        ({"log2_stretch": 0.4}, lambda x, y: (x / 2**0.4, y * 2**0.4)),
        ({"rotation": 0.4}, lambda x, y: turned(x, y, 0.4)),
        ({"rotation": 0.4, "rotation_after": -0.4}, lambda x, y: (x, y)),
        ({"shift": (0.05, -0.1)}, lambda x, y: (x - 2.4, y + 4)),
        # First the flip, then the rotation: the rotation is undone first.
        ({"flip": 1, "rotation": 0.4}, lambda x, y: mirrored(*turned(x, y, 0.4))),
    ],
)
def test_geometry_is_where_it_says(amounts, where):
    """Of an image that is not square."""
    at, x, y = smooth(40, 48)
    result = augmented(at(x, y)[None], some_of(**amounts))[0]
    seen = where(x, y)
    inside = (np.abs(seen[0]) < 17) & (np.abs(seen[1]) < 13)  # The rest sees reflections.
    assert inside.mean() > 0.2
    # sym6 is not symmetric: it moves what is turned by a fraction of a pixel.
    np.testing.assert_allclose(result[inside], at(*seen)[inside], atol=0.06)


def turned(x, y, angle):
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def mirrored(x, y):
    return -x, y


def test_far_away_the_reflections_go_on():
    """A scale of 1/16 sees 15 reflections; the official program would see black."""
    at, x, y = smooth(16, 16)
    far = augmented(at(x, y)[None], some_of(log2_scale=-4.0))
    assert np.abs(far).min() > 1e-4 and np.all(np.isfinite(far))
    assert abs(np.mean(far) - at(x, y).mean()) < 0.1


def test_colours():
    image = images_of(1, 4, 5)
    luma = image.mean(-1, keepdims=True)

    def recoloured(**amounts):
        return augmented(image, some_of(**amounts))

    close = dict(atol=1e-5)
    np.testing.assert_allclose(recoloured(brightness=0.3), image + 0.3, **close)
    np.testing.assert_allclose(recoloured(log2_contrast=1.0), 2 * image, **close)
    np.testing.assert_allclose(recoloured(luma_flip=1), image - 2 * luma, **close)
    np.testing.assert_allclose(recoloured(log2_saturation=-30.0), luma + 0 * image, **close)
    third = recoloured(hue=2 * np.pi / 3)  # Red becomes green.
    np.testing.assert_allclose(third, np.roll(image, 1, -1), **close)


def test_grey_images_get_the_mean_of_what_colours_get():
    amounts = drawn(jax.random.key(3), 1, 1.0)
    grey = images_of(1, 9, 9, 1)
    as_colour = augmented(np.repeat(grey, 3, -1), amounts)
    np.testing.assert_allclose(augmented(grey, amounts)[..., 0], np.mean(as_colour, -1), atol=1e-5)


def test_second_derivatives_agree_with_finite_differences():
    """R1 differentiates the square of a gradient through the augmentation."""
    image = images_of(1, 8, 8, 3)
    amounts = drawn(jax.random.key(4), 1, 1.0)
    weight = images_of(2, 8, 8, 3)[1:]

    def penalty(strength):
        def judge(images):
            return jnp.sum(jnp.sin(strength * augment.augment(images, amounts)) * weight)

        return jnp.sum(jnp.square(jax.grad(judge)(image)))

    slope = jax.jit(jax.grad(penalty))(1.0)
    step = 1e-2
    higher, lower = (jax.jit(penalty)(1.0 + s) for s in (step, -step))
    assert abs(slope) > 0.1
    np.testing.assert_allclose(slope, (higher - lower) / (2 * step), rtol=1e-2)
