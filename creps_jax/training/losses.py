"""The losses as pure functions of logits and of the networks as functions.

Notation: N batch, L number of latents w of an image. Logits [N]; images [N, H, W, channels].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array


def generator_loss(fake_logits: Array) -> Array:
    """Non-saturating logistic loss of the generator: mean softplus(-D(fake)) (Goodfellow 2014)."""
    return jax.nn.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Array, fake_logits: Array) -> Array:
    """Logistic loss of the discriminator: mean softplus(D(fake)) + mean softplus(-D(real))."""
    return jax.nn.softplus(fake_logits).mean() + jax.nn.softplus(-real_logits).mean()


def r1_penalties(discriminate: Callable[[Array], Array], real: Array) -> tuple[Array, Array]:
    """|d sum D(real) / d real|^2 of every image, [N], and D(real), [N] (Mescheder 2018, eq. 9)."""

    def total(images: Array) -> tuple[Array, Array]:
        logits = discriminate(images)
        return logits.sum(), logits

    gradient, logits = jax.grad(total, has_aux=True)(real)
    return jnp.square(gradient).sum(axis=(1, 2, 3)), logits


def path_lengths(synthesize: Callable[[Array], Array], ws: Array, noise: Array) -> Array:
    """sqrt(mean over the L layers of |d sum(image * noise) / d w_l|^2): [N] (Karras 2020).

    ws [N, L, w_dim]; noise like the images, normal(0, 1) / sqrt(H W).
    """
    gradient = jax.grad(lambda ws: (synthesize(ws) * noise).sum())(ws)
    return jnp.sqrt(jnp.square(gradient).sum(axis=2).mean(axis=1))


def path_length_penalty(lengths: Array, mean: Array, decay: float) -> tuple[Array, Array]:
    """mean (lengths - mean')^2 and mean' = mean + decay (mean(lengths) - mean).

    The gradient flows through the updated mean; the caller stores it detached.
    """
    mean = mean + decay * (lengths.mean() - mean)
    return jnp.square(lengths - mean).mean(), mean
