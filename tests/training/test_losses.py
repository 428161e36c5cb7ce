"""The losses agree with their closed forms, and so do their gradients of second order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax.training import losses

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def softplus(x):
    return np.log1p(np.exp(np.asarray(x, np.float64)))


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


# Logistic losses.

REAL, FAKE = 3.0 * normal(0, 6), 3.0 * normal(1, 6)


def test_generator_loss_is_the_mean_softplus_of_minus_the_logits():
    loss, gradient = quick_jit(jax.value_and_grad(losses.generator_loss))(FAKE)
    close(loss, softplus(-FAKE).mean())
    close(gradient, -sigmoid(-FAKE) / 6)


def test_discriminator_loss_raises_reals_and_lowers_fakes():
    loss, gradients = quick_jit(jax.value_and_grad(losses.discriminator_loss, argnums=(0, 1)))(
        REAL, FAKE
    )
    close(loss, softplus(-REAL).mean() + softplus(FAKE).mean())
    close(gradients[0], -sigmoid(-REAL) / 6)
    close(gradients[1], sigmoid(FAKE) / 6)


def test_reals_and_fakes_may_differ_in_number():
    loss = quick_jit(losses.discriminator_loss)(REAL[:2], FAKE)
    close(loss, softplus(-REAL[:2]).mean() + softplus(FAKE).mean())


@pytest.mark.parametrize("logit", [1e4, -1e4, 1e38, -1e38])
def test_large_logits_do_not_overflow(logit):
    logits = np.full(2, logit, np.float32)
    loss, slopes = quick_jit(jax.value_and_grad(losses.generator_loss))(logits)
    close(loss, max(-logit, 0.0))
    close(slopes, [-0.5 * (logit < 0)] * 2)
    loss, slopes = quick_jit(jax.value_and_grad(losses.discriminator_loss))(logits, -logits)
    close(loss, 2 * max(-logit, 0.0))
    close(slopes, [-0.5 * (logit < 0)] * 2)


# R1, on discriminators of images [N, 2, 3, 2] whose gradients are known.

IMAGES = normal(2, 4, 2, 3, 2)
A = normal(3, 2, 3, 2)


def r1_penalties(discriminate, real):
    penalties, logits = quick_jit(functools.partial(losses.r1_penalties, discriminate))(real)
    close(logits, discriminate(real))
    return penalties


def quadratic(a):
    """D(x) = sum a x^2 / 2, with gradient a x."""
    return lambda x: (0.5 * a[None] * jnp.square(x)).sum(axis=(1, 2, 3))


def wave(a):
    """D(x) = sin(sum a x), with gradient cos(sum a x) a."""
    return lambda x: jnp.sin((a[None] * x).sum(axis=(1, 2, 3)))


def test_r1_is_the_squared_norm_of_every_images_own_gradient():
    penalties = r1_penalties(quadratic(A), IMAGES)
    close(penalties, np.square(A * IMAGES).sum(axis=(1, 2, 3)))
    penalties = r1_penalties(wave(A), IMAGES)
    phases = (A * IMAGES).sum(axis=(1, 2, 3))
    close(penalties, np.cos(phases) ** 2 * np.square(A).sum())


def test_r1_agrees_with_finite_differences():
    """On a discriminator whose logits depend on the whole batch, as minibatch statistics do."""

    def logits(x, xp):
        means = x.mean(axis=(1, 2, 3))
        return xp.tanh(means) + xp.sin((A[None] * x).sum(axis=(1, 2, 3))) * xp.exp(means.mean())

    def total(x):
        return logits(x, np).sum()

    gradient = np.zeros(IMAGES.shape)
    for index in np.ndindex(IMAGES.shape):
        shift = np.zeros(IMAGES.shape)
        shift[index] = 1e-5
        gradient[index] = (total(IMAGES + shift) - total(IMAGES - shift)) / 2e-5

    penalties = r1_penalties(lambda x: logits(x, jnp), IMAGES)
    close(penalties, np.square(gradient).sum(axis=(1, 2, 3)))


def test_the_gradient_of_r1_is_that_of_its_closed_form():
    def penalty(discriminator):
        return lambda a: losses.r1_penalties(discriminator(a), jnp.asarray(IMAGES))[0].mean()

    def gradient(discriminator):
        return quick_jit(jax.grad(penalty(discriminator)))(A)

    # |a x|^2: 2 a x^2.
    close(gradient(quadratic), (2 * A * IMAGES**2).mean(axis=0))
    # cos^2(p) |a|^2 with p = sum a x: 2 cos^2(p) a - 2 cos(p) sin(p) |a|^2 x.
    p = (A * IMAGES).sum(axis=(1, 2, 3))[:, None, None, None]
    expected = 2 * np.cos(p) ** 2 * A - 2 * np.cos(p) * np.sin(p) * np.square(A).sum() * IMAGES
    close(gradient(wave), expected.mean(axis=0))


# Path lengths, on a linear synthesis: ws [N, L, D] times a table [L, D, H, W, channels].

WS, TABLE, NOISE = normal(4, 3, 5, 4), normal(5, 5, 4, 2, 3, 2), normal(6, 3, 2, 3, 2)


def path_lengths(synthesize):
    return quick_jit(functools.partial(losses.path_lengths, synthesize))(WS, NOISE)


def linear(table):
    return lambda ws: jnp.einsum("nld,ldhwc->nhwc", ws, table)


def projected():
    """d sum(image * noise) / d ws of the linear synthesis: [N, L, D]."""
    return np.einsum("ldhwc,nhwc->nld", TABLE, NOISE, dtype=np.float64)


def test_path_lengths_are_the_root_mean_square_over_layers_of_the_gradients_norms():
    lengths = path_lengths(linear(TABLE))
    norms = np.linalg.norm(projected(), axis=2)
    close(lengths, np.sqrt(np.square(norms).mean(axis=1)))


def test_the_gradient_of_path_lengths_is_that_of_their_closed_form():
    def total(table):
        return losses.path_lengths(linear(table), WS, NOISE).sum()

    g = projected()
    lengths = np.sqrt(np.square(g).sum(axis=2).mean(axis=1))
    # d length / d table = noise * g / (L length).
    expected = np.einsum("nld,nhwc,n->ldhwc", g, NOISE, 1.0 / (5 * lengths))
    close(quick_jit(jax.grad(total))(TABLE), expected)


def test_path_lengths_of_a_curved_synthesis_are_measured_at_ws():
    """image = table @ ws^2 / 2 has the gradient ws * projected."""
    lengths = path_lengths(lambda ws: linear(TABLE)(0.5 * jnp.square(ws)))
    close(lengths, np.sqrt(np.square(WS * projected()).sum(axis=2).mean(axis=1)))


# The path-length penalty, with a decay large enough to be seen.

LENGTHS, MEAN, DECAY = np.abs(normal(7, 4)), np.float32(0.4), 0.25


def updated_mean():
    return MEAN + DECAY * (LENGTHS.mean(dtype=np.float64) - MEAN)


def test_the_path_length_penalty_uses_the_updated_mean():
    penalty, mean = quick_jit(losses.path_length_penalty)(LENGTHS, MEAN, DECAY)
    close(mean, updated_mean())
    close(penalty, np.square(LENGTHS - updated_mean()).mean())


def test_the_path_length_penaltys_gradient_flows_through_the_updated_mean():
    gradient, _ = quick_jit(jax.grad(losses.path_length_penalty, has_aux=True))(
        LENGTHS, MEAN, DECAY
    )
    # m' = m + decay (mean(l) - m): dP / dl = 2/n (l - m' - decay * mean(l - m')).
    distances = LENGTHS - updated_mean()
    close(gradient, 2 / 4 * (distances - DECAY * distances.mean()))
