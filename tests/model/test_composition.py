"""Rows are composed with columns alike on all devices, at crossings and pair by pair."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax.model import composition

# Compiling takes most of the time here; what is claimed holds without the optimiser.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

IMAGES, ROWS, COLUMNS, THICKNESS, CHANNELS = 2, 5, 4, 3, 6


def normal(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def lines():
    """Of rows [N, H, R, B] and columns [N, W, R, B]."""
    rows, columns = ((IMAGES, side, THICKNESS, CHANNELS) for side in (ROWS, COLUMNS))
    return normal(*rows, seed=0), normal(*columns, seed=1)


def crossings(one_pixel):
    of_columns = jax.vmap(one_pixel, (None, 0))
    return jax.vmap(jax.vmap(of_columns, (0, None)))


def pairs(one_pixel):
    of_pairs = jax.vmap(one_pixel)
    return lambda rows, columns: jax.vmap(of_pairs)(rows[:, :COLUMNS], columns)


def shared_row(one_pixel):
    of_columns = jax.vmap(one_pixel, (None, 0))
    return lambda rows, columns: of_columns(rows[0, 0], columns[0])


def by_jax(row, column):
    return jnp.einsum("rb,rb->b", row, column)


@pytest.mark.parametrize("positions", [crossings, pairs, shared_row])
def test_a_composition_and_its_derivatives_are_those_of_the_sum(positions):
    def second(one_pixel):
        def energy(rows, columns):
            return jnp.sin(positions(one_pixel)(rows, columns)).sum()

        def slope(rows, columns):
            gradients = jax.grad(energy, (0, 1))(rows, columns)
            return sum(jnp.cos(gradient).sum() for gradient in gradients)

        return quick_jit(lambda *lines: (energy(*lines), jax.grad(slope, (0, 1))(*lines)))

    ours, expected = (jax.tree.leaves(second(f)(*lines())) for f in (composition.compose, by_jax))
    for actual, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("of_rows", "of_columns"),
    [
        ((2, 5, 1), (2, 1, 4)),
        ((2, 1, 4), (2, 5, 1)),
        ((1, 5, 1), (2, 1, 4)),
        ((2, 1, 1), (2, 1, 4)),
        ((5, 4), (5, 4)),
        ((5, 4), (1, 4)),
        ((), ()),
    ],
)
def test_products_on_tpus_are_the_sums_of_other_devices(of_rows, of_columns):
    row = normal(*of_rows, THICKNESS, CHANNELS, seed=0)
    column = normal(*of_columns, THICKNESS, CHANNELS, seed=1)
    wanted = composition.compose_by_sums(row, column)
    actual = composition.compose_by_products(row, column)
    assert actual.shape == wanted.shape
    np.testing.assert_allclose(actual, wanted, atol=1e-5)
    u = normal(*wanted.shape, seed=2)
    for shape, other in (row.shape, column), (column.shape, row):
        wanted = composition.spread_by_sums(u, other, shape=shape)
        assert wanted.shape == shape
        actual = composition.spread_by_products(u, other, shape=shape)
        assert actual.shape == shape
        np.testing.assert_allclose(actual, wanted, atol=1e-5)


def program(positions, platform):
    """Of a composition and its gradients."""

    def energy(rows, columns):
        return jnp.sin(positions(composition.compose)(rows, columns)).sum()

    traced = jax.jit(jax.grad(energy, (0, 1))).trace(*lines())
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_where_rows_cross_columns_a_tpu_takes_products_of_matrices():
    # A product of matrices for each pair would be of one row and one column.
    counts = {
        (positions, platform): program(positions, platform).count("dot_general")
        for positions in (crossings, pairs)
        for platform in ("tpu", "cpu")
    }
    products = counts.pop((crossings, "tpu"))
    assert products == 3 and not any(counts.values())
