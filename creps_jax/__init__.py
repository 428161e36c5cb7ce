"""CREPS in JAX: images as pure functions of (weights, latent, coordinates)."""

__version__ = "0.1.0"
