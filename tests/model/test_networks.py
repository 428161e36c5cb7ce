"""An image is a pure function of (weights, latent, coordinates), each pixel on its own."""

import functools
import math
import re
from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax.config import DiscriminatorConfig, GeneratorConfig
from creps_jax.model import biline, coordinates, layers, ops
from creps_jax.model.coordinates import centers, endpoints, positions
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator

# Compiling takes most of the time here; what is claimed holds without the optimiser.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# No two of R, B and the widths are alike, so that shapes tell the axes apart.
WIDTHS = (12, 10, 8, 6, 4)  # of blocks 4, 8, 16, 32, 64
W_DIM, BILINE, THICKNESS = 7, 5, 3
BANDWIDTH = 4.0


def random_variables(module):
    """All variables ~ normal(0, 1), biases too, so that nothing hides behind a zero.

    Compiling a network's own initialisation takes longer than all else in this file.
    """
    random = np.random.default_rng(0)

    def draw(path, leaf):
        names = jax.tree_util.keystr(path)
        # The learning rate of the mapping networks makes their stored weights large.
        scale = 100.0 if "mapping" in names and "weight" in names else 1.0
        return jnp.asarray(scale * random.normal(size=leaf.shape), jnp.float32)

    shapes = layers.variable_shapes(module)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def make_generator(resolution=16, image_channels=3, num_classes=0):
    return Generator(
        GeneratorConfig(
            z_dim=6,
            w_dim=W_DIM,
            num_classes=num_classes,
            image_channels=image_channels,
            channels=WIDTHS[: int(math.log2(resolution)) - 1],
            biline_channels=BILINE,
            thickness=THICKNESS,
            bandwidth=BANDWIDTH,
            mapping_layers=2,
        )
    )


def generator_arguments(config, n=1, size=1):
    """z, c, y and x of n images of size x size."""
    t = positions(0, size, size, config.shape[0])
    return normal(n, config.z_dim), np.eye(n, config.num_classes, dtype=np.float32), t, t


@functools.cache
def generator(resolution=16, image_channels=3, num_classes=0):
    """(module, variables)"""
    module = make_generator(resolution, image_channels, num_classes)
    return module, random_variables(module)


def synthesis_of(resolution=16):
    """(ws, y, x) -> images."""
    module, variables = generator(resolution)
    return lambda ws, y, x: module.apply(variables, ws, y, x, method="synthesize")


@functools.cache
def synthesis():
    """Jitted (ws, y, x) -> images of any size."""
    return quick_jit(synthesis_of())


@functools.cache
def native_synthesis():
    """(ws, y, x) -> two images of 16 x 16, compiled as users do."""
    return lowered().compile()


def normal(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


WS = normal(2, 7, W_DIM)  # Another w for every layer of two images of 16 x 16.
GRID = coordinates.training_positions(16)


@functools.cache
def native():
    return np.asarray(native_synthesis()(WS, GRID, GRID))


def assert_close(ours, expected, tolerance=1e-5):
    """Equal up to a share of the largest value."""
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape
    assert np.isfinite(expected).all() and np.ptp(expected) > 0
    assert np.abs(ours - expected).max() <= tolerance * np.abs(expected).max()


# Pixels are rows of matrix products.


class Dot(NamedTuple):
    """Sizes of the axes of one matrix product."""

    batch: list[int]
    left: list[int]  # axes of the left operand that stay
    right: list[int]  # axes of the right operand that stay
    contracted: list[int]


def dots(stablehlo):
    """All matrix products of a lowered program, in order."""
    found = []
    for operation in re.findall(r"stablehlo\.dot_general (.*)", stablehlo):
        axes = {"batching_dims": ([], []), "contracting_dims": ([], [])}
        for kind, *both in re.findall(r"(\w+) = \[([\d, ]+)\] x \[([\d, ]+)\]", operation):
            axes[kind] = tuple([int(i) for i in re.findall(r"\d+", side)] for side in both)
        batch, contracted = axes["batching_dims"], axes["contracting_dims"]
        shapes = [
            [int(size) for size in shape.split("x")]
            for shape in re.findall(r"tensor<([\dx]+)xf32>", operation)[:2]
        ]
        free = [
            [size for i, size in enumerate(shape) if i not in batch[side] + contracted[side]]
            for side, shape in enumerate(shapes)
        ]
        found.append(
            Dot([shapes[0][i] for i in batch[0]], *free, [shapes[0][i] for i in contracted[0]])
        )
    return found


@functools.cache
def lowered(resolution=16, n=2, height=16, width=16):
    ws = np.zeros((n, generator(resolution)[0].config.num_ws, W_DIM), np.float32)
    y, x = np.zeros(height, np.float32), np.zeros(width, np.float32)
    return jax.jit(synthesis_of(resolution)).lower(ws, y, x)


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_pixels_are_the_rows_of_one_matrix_product_per_layer(resolution):
    n, h, w = 2, 31, 37
    compositions = int(math.log2(resolution)) - 2
    program = lowered(resolution, n, h, w).as_text()
    assert not re.search(r"stablehlo\.(while|map|case|if)\b", program)
    ours = [dot for dot in dots(program) if w in dot.left + dot.right and h in dot.left]
    decoder = [(BILINE, 2 * BILINE), (2 * BILINE, 4 * BILINE)]
    decoder += [(o, i) for i, o in reversed(decoder)]
    b2, b4 = 2 * BILINE, 4 * BILINE
    refine = [(BILINE, b4), (b4, b4), (b4, 3), (b4, b2), (b2, b2), (b2, 3)]
    expected = compositions * decoder + [(BILINE, 3)] + refine
    # The compositions are sums of products, element by element.
    assert ours == [Dot([], [n, h, w], [o], [i]) for i, o in expected]


def test_positions_are_the_rows_of_one_matrix_product_per_layer():
    n, h, w = 2, 31, 37
    c4, c8, c16 = WIDTHS[:3]
    sizes = [(c4, c4), (c4, c8), (c8, c8), (c8, BILINE), (c8, c16), (c16, c16), (c16, BILINE)]
    program = dots(lowered(16, n, h, w).as_text())
    ours = [dot for dot in program if h + w in dot.left + dot.right]
    assert ours == [Dot([], [n, h + w, THICKNESS], [o], [i]) for i, o in sizes]


def test_the_number_of_matrix_products_does_not_grow_with_the_image():
    small, large = (dots(lowered(16, *size).as_text()) for size in [(2, 31, 37), (3, 640, 500)])
    assert len(small) == len(large) > 0


def test_the_compiled_program_keeps_the_matrix_products_and_has_no_loop():
    program = native_synthesis().as_text()
    assert " while(" not in program
    shapes = [
        [int(size) for size in shape.split(",")]
        for shape in re.findall(r"f32\[([\d,]+)\]\S* dot\(", program)
    ]
    pixels, line_positions = 2 * 16 * 16, 2 * (16 + 16) * THICKNESS
    large = [shape for shape in shapes if math.prod(shape) >= 3 * line_positions]
    assert sum(shape[0] == line_positions and len(shape) == 2 for shape in large) == 7
    assert sum(shape[0] == pixels and len(shape) == 2 for shape in large) == 2 * 4 + 7
    assert len(large) == 7 + 2 * 4 + 7


def test_a_whole_image_takes_few_of_its_widest_maps_of_memory():
    side, (network, variables) = 64, generator(16)
    ws = jnp.zeros((network.config.num_ws, W_DIM))
    image = network.apply(variables, ws, method="image")
    lines = jnp.zeros((side, *biline.line_shape(image)))
    compiled = jax.jit(biline.pixels).lower(image, lines, lines).compile()
    widest_map_bytes = 4 * BILINE * side**2 * 4
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * widest_map_bytes


# An image at other coordinates.


@pytest.mark.parametrize("sampling", [centers, endpoints])
@pytest.mark.parametrize(
    ("n", "first_row", "first_column"), [(16, 0, 0), (40, 13, 20), (1000, 200, 984)]
)
def test_window_equals_the_crop_of_the_whole(sampling, n, first_row, first_column):
    """Windows of 5 x 9 pixels, in the corners of one of 16 x 16 pixels, in a frame of n x n."""

    def window(row, column, height, width):
        y = positions(first_row + row, first_row + row + height, n, 16, sampling)
        x = positions(first_column + column, first_column + column + width, n, 16, sampling)
        return np.asarray((native_synthesis() if height == 16 else synthesis())(WS, y, x))

    whole = window(0, 0, 16, 16)
    for row, column in [(0, 0), (0, 7), (11, 0), (11, 7), (6, 3)]:
        part = whole[:, row : row + 5, column : column + 9]
        assert np.abs(window(row, column, 5, 9) - part).max() <= 1e-5 * np.abs(whole).max()


def test_an_image_that_is_not_square_is_a_part_of_the_square():
    assert_close(synthesis()(WS, GRID, GRID[4:9]), native()[:, :, 4:9])


def test_order_of_the_positions_is_the_order_of_the_pixels():
    random = np.random.default_rng(2)
    rows, columns = random.permutation(16), random.permutation(16)
    permuted = native_synthesis()(WS, GRID[rows], GRID[columns])
    assert_close(permuted, native()[:, rows][:, :, columns])


def test_rows_and_columns_are_not_the_same_lines():
    """The transposed image is another one: y and x are told apart."""
    assert np.abs(native() - native().transpose(0, 2, 1, 3)).max() > 0.1


def test_a_position_decides_its_own_row_or_column_and_no_other():
    others = np.arange(16) != 3
    moved = GRID.copy()
    moved[3] = 0.77
    rows, columns = native_synthesis()(WS, moved, GRID), native_synthesis()(WS, GRID, moved)
    np.testing.assert_array_equal(rows[:, others], native()[:, others])
    np.testing.assert_array_equal(columns[:, :, others], native()[:, :, others])
    assert (np.abs(rows[:, 3] - native()[:, 3]) > 1e-3).any(axis=(0, 2)).all()
    assert (np.abs(columns[:, :, 3] - native()[:, :, 3]) > 1e-3).any(axis=(0, 2)).all()


def test_lines_of_a_position_are_its_own():
    module, variables = generator()

    @jax.jit
    def both_lines(t):
        images = module.apply(variables, WS, method="images")
        return jax.vmap(biline.row_and_column_lines, (biline.IMAGES, None, None))(images, t, t)

    def lines(t):
        return jax.tree.map(np.asarray, both_lines(t))

    t = positions(3, 9, 40, 16)
    others = np.arange(6) != 2
    moved = np.where(others, t, np.float32(0.9))
    for before, after in zip(lines(t), lines(moved), strict=True):
        assert before.shape == (2, 6, 2, THICKNESS, BILINE)
        np.testing.assert_array_equal(before[:, others], after[:, others])
        assert (before != after)[:, 2].mean() > 0.9
    assert np.abs(lines(t)[0] - lines(t)[1]).max() > 0.1


# Latents.


def test_a_batch_of_images_equals_the_images_one_by_one():
    for k, image in enumerate(native()):
        assert_close(synthesis()(WS[k : k + 1], GRID, GRID)[0], image)


def test_the_other_images_of_a_batch_do_not_matter():
    other = np.stack([WS[0], normal(7, W_DIM, seed=5)])
    image, different = np.asarray(native_synthesis()(other, GRID, GRID))
    np.testing.assert_array_equal(image, native()[0])
    assert np.abs(different - native()[1]).max() > 0.1


@pytest.mark.parametrize("layer", range(7))
def test_the_latent_of_every_layer_changes_the_image(layer):
    changed = WS.copy()
    changed[:, layer] += 0.5
    change = np.abs(native_synthesis()(changed, GRID, GRID) - native())
    assert change.max() > 0.01 * np.abs(native()).max()


def latents_in_use(outputs, num_ws):
    """Of each output of a function of w [num_ws, w_dim]: with which latents it changes at all."""
    compiled = quick_jit(outputs)
    w = normal(num_ws, W_DIM)
    before = compiled(w)
    used = jax.tree.map(lambda _: set(), before)
    for k in range(num_ws):
        changed = w.copy()
        changed[k] += 0.5

        def note(latents, before, after, k=k):
            if np.any(np.asarray(before) != np.asarray(after)):
                latents.add(k)

        jax.tree.map(note, used, before, compiled(changed), is_leaf=lambda x: isinstance(x, set))
    return used


def test_every_layer_takes_its_own_latent():
    """Quirk Q2: the last layer of a block shares its latent with the next block's first."""
    module, variables = generator(32)
    params = variables["params"]

    def styles(w):
        return biline.line_styles(params["lines"], w), biline.pixel_styles(params["pixels"], w)

    lines, pixels = latents_in_use(styles, module.config.num_ws)

    def layers_of(block, out):
        scales = [block["layer_0"].scale, block["layer_1"].scale, block[out]]
        assert [block["layer_0"].demodulation, block["layer_1"].demodulation] == scales[:2]
        return scales

    assert lines["table"] == {0}
    assert lines["block_4"] == layers.Style({1}, {1})
    blocks = [layers_of(block, "to_biline") for block in lines["blocks"]]
    assert blocks == [[{1}, {2}, {3}], [{3}, {4}, {5}], [{5}, {6}, {7}]]
    assert [layers_of(block, "to_rgb") for block in pixels["refine"]] == 2 * [[{8}, {8}, {8}]]


def test_lines_take_all_latents_but_the_last_and_pixels_the_last_alone():
    module, variables = generator()
    t = positions(0, 3, 3, 16)
    fixed = normal(3, 2, THICKNESS, BILINE)

    def outputs(w):
        image = module.apply(variables, w, method="image")
        rows = biline.lines(image, t, np.zeros(3, np.int32))
        return [rows[:, 0], rows[:, 1], biline.pixels(image, fixed, fixed)]

    # Bi-line k is the sum over the blocks up to 2^(k + 3).
    first, second, pixels = latents_in_use(outputs, 7)
    assert (first, second, pixels) == ({0, 1, 2, 3}, {0, 1, 2, 3, 4, 5}, {6})


def test_truncation_to_nothing_leaves_one_image():
    module, variables = generator()
    w = normal(2, W_DIM)

    @functools.partial(quick_jit, static_argnums=(0, 1))
    def truncated(psi, cutoff=None):
        return module.apply(variables, w, psi, cutoff, method="truncate")

    ws = truncated(0.0)
    w_avg = variables["statistics"]["mapping"]["w_avg"]
    np.testing.assert_array_equal(ws, np.broadcast_to(w_avg, (2, 7, W_DIM)))
    assert_close(*native_synthesis()(ws, GRID, GRID))
    # With a cutoff, the rest keep their own latent.
    np.testing.assert_array_equal(truncated(0.0, 3)[:, :3], ws[:, :3])
    np.testing.assert_array_equal(truncated(0.0, 3)[:, 3:], np.repeat(w[:, None], 4, axis=1))
    np.testing.assert_allclose(truncated(0.5), 0.5 * (ws + w[:, None]), rtol=0, atol=1e-6)


# Sizes and conditions.

SIZES = [(8, 1, 3), (16, 3, 0), (64, 3, 2), (64, 1, 0)]


@pytest.mark.parametrize(("resolution", "image_channels", "num_classes"), SIZES)
def test_images_have_the_shape_of_their_positions(resolution, image_channels, num_classes):
    module = make_generator(resolution, image_channels, num_classes)
    z, c, _, _ = generator_arguments(module.config, n=2)
    image, variables = jax.eval_shape(
        module.init_with_output, jax.random.key(0), z, c, GRID[:11], GRID[:6]
    )
    assert (image.shape, image.dtype) == ((2, 11, 6, image_channels), jnp.float32)
    # The widths are those of the config, in this order.
    params = variables["params"]
    biases = [params["lines"]["block_4"]["bias"]]
    biases += [block["layer_1"]["bias"] for block in params["lines"]["blocks"]]
    assert tuple(b.shape[0] for b in biases) == module.config.channels
    assert ("embed" in params["mapping"]) == (num_classes > 0)


def test_images_of_16_pixels_are_finite_and_differ_between_latents():
    module, variables = generator()
    z, c, _, _ = generator_arguments(module.config, n=2)
    w = np.asarray(quick_jit(functools.partial(module.apply, method="map"))(variables, z, c))
    images = np.asarray(native_synthesis()(np.repeat(w[:, None], 7, axis=1), GRID, GRID))
    assert np.isfinite(images).all()
    assert np.abs(images[0] - images[1]).max() > 0.05 * np.abs(images).max()


@functools.cache
def beginning():
    """Three grey images of 8 x 8 of a new network, and its variables."""
    module = make_generator(8, image_channels=1, num_classes=3)
    z, _, t, _ = generator_arguments(module.config, n=2, size=8)
    z, c = z[[0, 1, 1]], np.eye(3, dtype=np.float32)[[0, 0, 1]]
    result = quick_jit(module.init_with_output)(jax.random.key(0), z, c, t, t)
    return jax.tree.map(np.asarray, result)


def test_images_of_a_new_network_differ_between_latents_and_between_classes():
    images, _ = beginning()
    assert images.shape == (3, 8, 8, 1)
    assert np.isfinite(images).all()
    scale = np.abs(images).max()
    assert np.abs(images[0] - images[1]).max() > 0.05 * scale
    assert np.abs(images[1] - images[2]).max() > 0.05 * scale


def test_a_new_network_has_the_stated_distributions():
    _, variables = beginning()
    assert not variables["statistics"]["mapping"]["w_avg"].any()
    # The mapping's learning rate of 0.01 makes its stored weights 100 times larger.
    kinds = {"mapping": [], "weight": [], "bias": [], "affine_bias": []}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        name = jax.tree_util.keystr(path)
        if "bias']" in name.rpartition("[")[2]:
            kind = "affine_bias" if "affine" in name else "bias"
        else:
            kind = "mapping" if "['mapping']['layers']" in name else "weight"
        kinds[kind].append(leaf.ravel())
    values = {kind: np.concatenate(leaves) for kind, leaves in kinds.items()}
    assert (values["bias"] == 0).all()
    assert (values["affine_bias"] == 1).all()
    np.testing.assert_allclose(values["mapping"].std(), 100, rtol=0.15)
    np.testing.assert_allclose(values["weight"].std(), 1, rtol=0.05)
    freqs = variables["constants"]["lines"]["freqs"].ravel()
    np.testing.assert_allclose(freqs.std(), BANDWIDTH, rtol=0.5)
    # Every array has a key of its own: no number occurs twice.
    drawn = np.concatenate([values["weight"], values["mapping"] / 100, freqs / BANDWIDTH])
    assert len(np.unique(np.round(drawn, 5))) > 0.98 * drawn.size


# The discriminator.


def make_discriminator(resolution=16, num_classes=0, group_size=4):
    module = Discriminator(
        DiscriminatorConfig(
            num_classes=num_classes,
            image_channels=3,
            channels=(6, 5, 4)[: int(math.log2(resolution)) - 1],
            mbstd_group_size=group_size,
            mapping_layers=2,
        )
    )
    return module, random_variables(module)


def test_logits_of_a_group_do_not_depend_on_the_other_groups_images():
    module, variables = make_discriminator()
    logits = quick_jit(lambda images: module.apply(variables, images, np.zeros((8, 0))))
    images = normal(8, 16, 16, 3)
    changed = images.copy()
    changed[2] += normal(16, 16, 3, seed=2)
    before, after = np.asarray(logits(images)), np.asarray(logits(changed))
    assert before.shape == (8,)
    assert np.isfinite(before).all()
    # Two groups of four, by even and odd numbers; a change moves all of its own group.
    np.testing.assert_array_equal(before[1::2], after[1::2])
    assert (before[::2] != after[::2]).all()


@pytest.mark.parametrize("n", [2, 8])  # Of each kind: less than a group has, and two groups.
def test_kinds_of_images_that_take_turns_are_judged_as_each_alone(n):
    module, variables = make_discriminator()
    kinds = normal(n, 16, 16, 3), 2 + normal(n, 16, 16, 3, seed=2)
    judge = quick_jit(
        lambda images, kinds: module.apply(variables, images, np.zeros((len(images), 0)), kinds),
        static_argnums=1,
    )
    both = judge(np.stack(kinds, axis=1).reshape(2 * n, 16, 16, 3), 2)
    assert_close(both.reshape(n, 2).T, [judge(images, 1) for images in kinds])


def test_logits_depend_on_the_image_and_on_the_class():
    module, variables = make_discriminator(resolution=8, num_classes=3, group_size=1)
    images = normal(2, 8, 8, 3)[[0, 0, 0, 1]]
    classes = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    logits = np.asarray(quick_jit(module.apply)(variables, images, classes))
    assert logits.shape == (4,)
    assert np.isfinite(logits).all()
    assert np.diff(np.sort(logits)).min() > 1e-3


@pytest.mark.parametrize(("n", "group_size", "group"), [(8, 4, 4), (6, 2, 2), (6, 6, 6), (3, 4, 3)])
def test_minibatch_std_is_that_of_the_strided_groups(n, group_size, group):
    x = normal(n, 4, 4, 5)
    out = np.asarray(quick_jit(layers.minibatch_std, static_argnums=1)(x, group_size))
    np.testing.assert_array_equal(out[..., :5], x)
    stride = n // group
    for i in range(n):
        members = x[[i % stride + k * stride for k in range(group)]].astype(np.float64)
        deviation = np.sqrt(members.var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(out[i, :, :, 5], deviation, rtol=1e-5)


def test_minibatch_std_of_equal_images_is_small_and_has_a_gradient():
    x = np.ones((4, 4, 4, 5), np.float32)
    feature_of = jax.value_and_grad(lambda x: layers.minibatch_std(x, 4)[0, 0, 0, 5])
    feature, slopes = quick_jit(feature_of)(x)
    np.testing.assert_allclose(feature, 1e-4, rtol=1e-5)
    assert np.isfinite(slopes).all()


def blurs(padding, stride):
    """As on all devices but TPUs, and as on TPUs."""
    here, on_tpu = ops.blur, ops.blur_by_convolutions
    return [functools.partial(f, padding=padding, stride=stride) for f in (here, on_tpu)]


@pytest.mark.parametrize(("padding", "stride"), [(1, 2), (2, 1)])
def test_blur_is_the_convolution_of_the_zero_padded_image(padding, stride):
    x = normal(2, 6, 8, 192)
    taps = np.array([1, 3, 3, 1])
    kernel = np.outer(taps, taps) / 64
    padded = np.zeros((2, 6 + 2 * padding, 8 + 2 * padding, 192))
    padded[:, padding:-padding, padding:-padding] = x
    rows, columns = (range(0, size - 3, stride) for size in padded.shape[1:3])
    expected = [
        [np.einsum("nijc,ij->nc", padded[:, i : i + 4, j : j + 4], kernel) for j in columns]
        for i in rows
    ]
    for blur in blurs(padding, stride):
        assert_close(quick_jit(blur)(x), np.moveaxis(expected, 2, 0), tolerance=1e-6)


def test_a_tpu_blurs_by_convolutions_forward_and_backward_and_others_by_sums():
    traced = jax.jit(jax.grad(lambda x: jnp.sin(ops.blur(x, 2)).sum())).trace(normal(2, 6, 8, 3))
    on_tpu, elsewhere = (
        traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")
        for platform in ("tpu", "cpu")
    )
    assert (on_tpu, elsewhere) == (4, 0)


@pytest.mark.parametrize(("padding", "stride"), [(1, 2), (2, 1)])
def test_the_gradients_of_both_blurs_are_equal(padding, stride):
    x, towards = normal(2, 6, 8, 3), normal(2, 6, 8, 3, seed=1)

    def energy(blur):
        return lambda x: jnp.sin(blur(x)).sum()

    def second(blur):
        return quick_jit(lambda x: jax.jvp(jax.grad(energy(blur)), (x,), (towards,)))

    pairs = zip(*(second(blur)(x) for blur in blurs(padding, stride)), strict=True)
    for here, on_tpu in pairs:
        assert_close(here, on_tpu, tolerance=1e-6)


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "VALID")])
def test_conv_is_the_equalised_correlation(stride, padding):
    weight, x = normal(3, 3, 2, 4, seed=3), normal(2, 7, 7, 2)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))) if padding == "SAME" else x
    steps = range(0, padded.shape[1] - 2, stride)
    expected = [
        [np.einsum("nijc,ijco->no", padded[:, i : i + 3, j : j + 3], weight) for j in steps]
        for i in steps
    ]
    ours = quick_jit(layers.conv, static_argnums=(2, 3))(weight, x, stride, padding)
    assert_close(ours, np.moveaxis(expected, 2, 0) / math.sqrt(3 * 3 * 2))


def r1_through(convolve):
    """(weight, x) -> |d sum(sin(conv)) / dx|^2: its derivatives are the second ones of conv."""

    def penalty(weight, x):
        gradient = jax.grad(lambda x: jnp.sin(convolve(weight, x)).sum())(x)
        return jnp.square(gradient).sum()

    return penalty


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"),
    [
        (3, 1, "SAME", 7),
        (3, 2, "VALID", 7),
        (3, 2, "VALID", 8),
        (3, 2, "SAME", 8),
        (1, 2, "SAME", 7),
    ],
)
def test_derivatives_of_conv_are_those_of_the_plain_convolution(kernel, stride, padding, side):
    def plain(weight, x):
        return jax.lax.conv_general_dilated(
            x,
            weight / math.sqrt(kernel * kernel * 2),
            (stride, stride),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )

    def ours(weight, x):
        return layers.conv(weight, x, stride, padding)

    weight, x = normal(kernel, kernel, 2, 4, seed=3), normal(2, side, side, 2)
    penalties = [quick_jit(jax.grad(r1_through(f), argnums=(0, 1))) for f in (ours, plain)]
    for derivative, expected in zip(*(f(weight, x) for f in penalties), strict=True):
        assert_close(derivative, expected)
    # Forward over reverse over reverse.
    towards = normal(kernel, kernel, 2, 4, seed=5), normal(2, side, side, 2, seed=6)
    changes = [
        quick_jit(lambda at, f=f: jax.jvp(jax.grad(r1_through(f)), at, towards)[1])
        for f in (ours, plain)
    ]
    assert_close(*(f((weight, x)) for f in changes))
    # Third derivatives go through the rules of the second ones.
    thirds = [
        quick_jit(jax.grad(lambda weight, x, f=f: jax.grad(r1_through(f))(weight, x).sum()))
        for f in (ours, plain)
    ]
    assert_close(*(f(weight, x) for f in thirds))


def test_convolutions_of_several_sets_of_maps_are_each_ones():
    weight, xs = normal(3, 3, 2, 4, seed=3), normal(3, 2, 7, 7, 2)
    both = quick_jit(jax.vmap(lambda x: layers.conv(weight, x), 0))(xs)
    for x, y in zip(xs, both, strict=True):
        assert_close(y, layers.conv(weight, x))


def test_a_product_over_positions_is_one_operation_whose_gradients_are_single_sums():
    weight, bias, x = normal(3, 4), normal(4), normal(2, 5, 6, 3)

    def ours(weight, bias, x):
        vector = jax.vmap(jax.vmap(jax.vmap(lambda x: ops.shift(ops.product(x, weight), bias))))
        return jnp.sin(vector(x)).sum()

    def plain(weight, bias, x):
        return jnp.sin(x @ weight + bias[None, None, None]).sum()

    gradients = [jax.grad(f, argnums=(0, 1, 2)) for f in (ours, plain)]
    at, towards = (weight, bias, x), (normal(3, 4, seed=1), normal(4, seed=2), normal(2, 5, 6, 3))
    names = Counter(str(each.primitive) for each in jax.make_jaxpr(gradients[0])(*at).eqns)
    assert names["product"] == 2 and names["outer"] == names["total"] == names["shift"] == 1
    assert names["reduce_sum"] == 1 and "dot_general" not in names  # The loss is a sum.
    for one, other in zip(*(f(*at) for f in gradients), strict=True):
        assert_close(one, other)
    # Forward over reverse, and reverse over both.
    changes = [lambda *at, f=f: jax.jvp(f, at, towards)[1][0].sum() for f in gradients]
    thirds = (quick_jit(jax.grad(f, argnums=(0, 1, 2)))(*at) for f in changes)
    for one, other in zip(*thirds, strict=True):
        assert_close(one, other)


def test_outside_of_jit_nothing_is_compiled_a_second_time():
    weight, x, compiled = normal(3, 3, 2, 4), normal(2, 7, 7, 2), []

    def operate():
        jax.block_until_ready((layers.conv(weight, x), ops.lrelu(x), ops.blur(x, 1, 2)))

    operate()
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **tags: compiled.append(event) if "backend_compile" in event else None
    )
    operate()
    assert not compiled
    ops.lrelu(x[:, :5])
    assert compiled  # What is new is heard.


def test_no_filter_gradient_of_r1_reads_feature_maps_with_inserted_zeros():
    penalty = r1_through(lambda weight, x: layers.conv(weight, x, 2, "VALID"))
    traced = jax.jit(jax.grad(penalty)).trace(normal(3, 3, 2, 4), normal(2, 9, 9, 2))
    on_tpu, on_cpu = (
        traced.lower(lowering_platforms=(platform,)).as_text("hlo") for platform in ("tpu", "cpu")
    )
    windows = re.findall(r"window={size=(\w+)[^}]* lhs_dilate=2x2", on_tpu)
    assert set(windows) == {"3x3"}  # Maps with zeros meet filters only, as in any gradient.
    assert "lhs_dilate" not in on_cpu  # Which has no unit that multiplies by zero for nothing.
    # Within a loop, as of microbatches, XLA has no fast convolution with other axes on a CPU.
    orders = re.findall(r"dim_labels=(\S+?),", on_cpu)
    assert len(orders) >= 5 and set(orders) == {"b01f_01io->b01f"}


# Layers, by their equations.


def np_lrelu(x):
    return np.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def modulated_layer(fan_in=6, fan_out=4):
    return {
        "weight": normal(fan_in, fan_out, seed=3),
        "bias": normal(fan_out, seed=4),
        "affine": {"weight": normal(W_DIM, fan_in, seed=5), "bias": normal(fan_in, seed=6)},
    }


def styles(p, w):
    """s = w @ affine weight / sqrt(w_dim) + affine bias."""
    return w @ p["affine"]["weight"].astype(np.float64) / math.sqrt(W_DIM) + p["affine"]["bias"]


@pytest.mark.parametrize("lr", [1.0, 0.01])
def test_linear_scales_weights_by_fan_in_and_learning_rate(lr):
    p = {"weight": normal(6, 4), "bias": normal(4, seed=2)}
    x = normal(6, seed=3)
    expected = x @ (p["weight"] * lr / math.sqrt(6)) + p["bias"] * lr
    assert_close(quick_jit(layers.linear)(p, x, lr), expected)


def test_modulated_equals_the_layer_with_explicitly_demodulated_weights():
    p, w, x = modulated_layer(), normal(W_DIM), 3.0 * normal(6, seed=8)
    weight = p["weight"] * styles(p, w)[:, None]
    weight /= np.sqrt(np.square(weight).sum(axis=0) + 1e-8)
    expected = np_lrelu(x @ weight + p["bias"])
    ours = quick_jit(lambda w, x: layers.modulated(p, layers.style(p, w), x))(w, x)
    assert_close(ours, expected)


def test_projection_is_modulated_by_style_over_root_fan_in_and_nothing_else():
    p, w, x = modulated_layer(), normal(W_DIM), normal(6, seed=8)
    expected = x @ (p["weight"] * styles(p, w)[:, None] / math.sqrt(6)) + p["bias"]
    project = quick_jit(lambda w, x: layers.projection(p, layers.projection_style(p, w), x))
    assert_close(project(w, x), expected)
    # Its results are clipped too.
    np.testing.assert_array_equal(np.abs(project(w, 1e6 * x)), np.full(4, 256.0))


def test_modulated_activations_are_clipped_at_256_on_both_sides():
    p, w, x = modulated_layer(), normal(W_DIM), normal(6, seed=8)
    p["weight"][:, 2:] = -p["weight"][:, :2]
    p["bias"][:] = 0
    ours = quick_jit(lambda w, x: layers.modulated(p, layers.style(p, w), x))(w, 1e6 * x)
    np.testing.assert_array_equal(np.abs(ours), np.full(4, 256.0))
    np.testing.assert_array_equal(ours[:2], -ours[2:])


def test_convolutional_activations_are_clipped_at_256_times_the_gain():
    x = np.array([1e4, 10.0, -10.0, -1e5], np.float32).reshape(1, 1, 1, 4)
    p = {"bias": np.array([0, 1, 1, 0], np.float32)}
    ours = quick_jit(lambda p, x: layers.activate(p, x, 0.5))(p, x)[0, 0, 0]
    root = math.sqrt(2)
    np.testing.assert_allclose(ours, [128, 5.5 * root, -0.9 * root, -128], rtol=1e-6)


def test_lrelu_has_slope_one_fifth_below_zero_and_gain_root_two():
    x = np.array([-3.0, -0.5, 0.0, 0.5, 3.0], np.float32)
    np.testing.assert_allclose(quick_jit(ops.lrelu)(x), np_lrelu(x), rtol=1e-6)


def test_the_slope_of_lrelu_is_that_of_its_parts_and_0_beyond_the_limit():
    def plain(x, gain, limit):
        return jnp.clip(jax.nn.leaky_relu(x, 0.2) * math.sqrt(2.0) * gain, -limit, limit)

    x = jnp.asarray([-1e4, -20.0, -1e-3, 0.0, 1e-3, 3.0, 50.0, 1e4], jnp.float32)
    for gain, limit in ((1.0, math.inf), (1.0, 10.0), (0.5, 10.0)):
        for f in (jax.grad, lambda g: jax.grad(lambda y: jnp.sin(jax.grad(g)(y) + y))):
            ours, expected = (
                jax.vmap(f(lambda y, h=h: h(y, gain, limit) * y))(x)  # noqa: B023
                for h in (ops.lrelu, plain)
            )
            assert_close(ours, expected)


def test_normalize_divides_by_the_root_mean_square():
    x = 20.0 * normal(9)
    expected = x / np.sqrt(np.square(x).mean() + 1e-8)
    assert_close(quick_jit(layers.normalize)(x), expected, tolerance=1e-6)
    np.testing.assert_array_equal(quick_jit(layers.normalize)(0 * x), 0 * x)


def test_a_mapping_stack_is_linear_layers_of_learning_rate_one_hundredth_with_lrelu():
    stack = [
        {"weight": 100 * normal(5, 4), "bias": 100 * normal(4, seed=2)},
        {"weight": 100 * normal(4, 4, seed=3), "bias": 100 * normal(4, seed=4)},
    ]
    x = expected = normal(5, seed=5)
    for p in stack:
        expected = np_lrelu(
            expected @ (0.01 * p["weight"]) / math.sqrt(len(expected)) + 0.01 * p["bias"]
        )
    assert_close(quick_jit(layers.mapping_stack)(stack, x), expected)


def test_encoding_is_sines_then_cosines_times_the_latents_table():
    channels, t = 6, 0.37
    p = {
        "weight": normal(channels, 2 * THICKNESS),
        "affine": {
            "weight": normal(W_DIM, channels * 2 * THICKNESS, seed=2),
            "bias": normal(channels * 2 * THICKNESS, seed=3),
        },
    }
    freqs, w = normal(channels // 2, THICKNESS, seed=4), normal(W_DIM, seed=5)
    table = p["weight"] * styles(p, w).reshape(channels, 2 * THICKNESS) / math.sqrt(channels)
    phase = 2 * math.pi * t * freqs
    waves = np.concatenate([np.sin(phase), np.cos(phase)])

    @quick_jit
    def encode(w, t):
        tables = biline.encoding_table(p, w)
        return biline.encode(freqs, tables[0], t), biline.encode(freqs, tables[1], t)

    row, column = encode(w, np.float32(t))
    assert_close(row, (waves * table[:, :THICKNESS]).T)
    assert_close(column, (waves * table[:, THICKNESS:]).T)
