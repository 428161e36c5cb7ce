"""Official arrays come in whole and unchanged, or are refused by an error that names the entry."""

import re

import jax
import numpy as np
import pytest

from creps_jax.interop import official
from creps_jax.interop.official import discriminator_from_arrays, generator_from_arrays
from tests.helpers import parity_arrays

UNCONDITIONAL = parity_arrays.load("networks_unconditional")
CONDITIONAL = parity_arrays.load("networks_conditional")


def discriminator_entries(arrays):
    return {k: v for k, v in arrays.group("D/").items() if k not in parity_arrays.D_RESULTS}


# One conditional and one unconditional of each.
NETWORKS = {
    "generator": (generator_from_arrays, UNCONDITIONAL.group("G/")),
    "conditional_generator": (generator_from_arrays, CONDITIONAL.group("G/")),
    "discriminator": (discriminator_from_arrays, discriminator_entries(UNCONDITIONAL)),
    "conditional_discriminator": (discriminator_from_arrays, discriminator_entries(CONDITIONAL)),
}
NAMES = {
    generator_from_arrays: official.generator_names,
    discriminator_from_arrays: official.discriminator_names,
}


@pytest.fixture(params=NETWORKS)
def network(request):
    """(the conversion, the arrays of an official network)"""
    return NETWORKS[request.param]


def used(arrays):
    return {name: a for name, a in arrays.items() if not official.UNUSED.fullmatch(name)}


def refuses(convert, arrays, *words):
    with pytest.raises(ValueError) as error:
        convert(arrays)
    for word in words:
        assert re.search(rf"(?<!\S){re.escape(word)}(?!\w)", str(error.value)), error.value


# There and back.


def test_to_arrays_undoes_the_conversion(network):
    convert, arrays = network
    module, variables = convert(arrays)
    back = official.to_arrays(NAMES[convert](module.config), variables)
    assert back.keys() == used(arrays).keys()
    for name, array in back.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def test_the_conversion_undoes_to_arrays(network):
    """On other numbers, so that not even a layout that is its own inverse can pass by chance."""
    convert, arrays = network
    module, variables = convert(arrays)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda a: random.normal(size=a.shape).astype(np.float32), variables)
    again, back = convert(official.to_arrays(NAMES[convert](module.config), variables))
    assert again == module
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_a_part_of_the_tree_converts_on_its_own():
    convert, arrays = NETWORKS["generator"]
    module, variables = convert(arrays)
    names = official.generator_names(module.config)["params"]["pixels"]["refine"]
    back = official.to_arrays(names, variables["params"]["pixels"]["refine"])
    assert back.keys() == {name for name in arrays if name.startswith("synthesis.block")}


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_arrays_of_other_precision_become_float32(network, kind):
    convert, arrays = network
    module, variables = convert({name: array.astype(kind) for name, array in arrays.items()})
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    back = official.to_arrays(NAMES[convert](module.config), variables)
    for name, array in back.items():
        np.testing.assert_array_equal(array, arrays[name].astype(kind).astype(np.float32))


# What no array says, and what is not used.


def test_the_group_size_is_the_callers():
    convert, arrays = NETWORKS["discriminator"]
    assert convert(arrays)[0].config.mbstd_group_size == 4
    assert convert(arrays, 2)[0].config.mbstd_group_size == 2


UNUSED_ENTRIES = [
    "synthesis.b4.tores.weight",
    "synthesis.b4.tores.affine.bias",
    "synthesis.decoder_8.0.weight",
    "synthesis.decoder_8.3.bias",
    "synthesis.b4.input.coords",
    "synthesis.b8.resample_filter",
    "b8.conv1.resample_filter",
    "resample_filter",
]


def test_unused_entries_may_be_absent(network):
    convert, arrays = network
    module, variables = convert(used(arrays))
    again, with_unused = convert(arrays)
    assert module == again
    jax.tree.map(np.testing.assert_array_equal, variables, with_unused)


def test_unused_entries_may_be_present_in_any_shape(network):
    convert, arrays = network
    more = {name: np.zeros((1, 2), np.float32) for name in UNUSED_ENTRIES}
    module, variables = convert({**arrays, **more})
    assert module == convert(arrays)[0]
    assert jax.tree.structure(variables) == jax.tree.structure(convert(arrays)[1])


def test_the_official_networks_hold_unused_entries():
    """So that the two tests above have something to leave out."""
    generator = NETWORKS["generator"][1]
    assert {"synthesis.b4.tores.weight", "synthesis.b4.input.coords"} <= generator.keys()
    assert any(name.startswith("synthesis.decoder_8.") for name in generator)
    assert any(name.endswith("resample_filter") for name in NETWORKS["discriminator"][1])


def test_widths_that_no_other_array_repeats_are_taken_as_they_are():
    def doubled(network, name, axis):
        convert, arrays = NETWORKS[network]
        before = convert(arrays)[0].config
        return before, convert({**arrays, name: np.repeat(arrays[name], 2, axis)})[0].config

    before, after = doubled("generator", "mapping.fc0.weight", 1)
    assert (after.z_dim, after.w_dim) == (2 * before.z_dim, before.w_dim)
    before, after = doubled("conditional_generator", "mapping.embed.weight", 1)
    assert (after.num_classes, after.z_dim) == (2 * before.num_classes, before.z_dim)
    from_rgb = next(name for name in NETWORKS["discriminator"][1] if "fromrgb.weight" in name)
    before, after = doubled("discriminator", from_rgb, 1)
    assert after.image_channels == 2 * before.image_channels


# What is refused.


def test_a_missing_entry_is_named(network):
    convert, arrays = network
    for name in used(arrays):
        refuses(convert, {k: v for k, v in arrays.items() if k != name}, name)


# Entries whose shapes the widths are inferred from: if one is wrong, others disagree with it.
INFERRED_FROM = re.compile(
    r"synthesis\.b\d+\.fc1\.weight|synthesis\.b4\.input\.weight|synthesis\.decoder_img\.weight"
    r"|b\d+\.(fromrgb|conv0)\.weight|b4\.conv\.weight|mapping\.(fc0|embed)\.weight"
)


def test_a_misshapen_entry_is_named_with_both_shapes(network):
    convert, arrays = network
    names = [name for name in used(arrays) if not INFERRED_FROM.fullmatch(name)]
    assert len(names) > len(used(arrays)) / 2
    for name in names:
        array = arrays[name]
        wrong = np.repeat(array, 2, axis=-1)
        refuses(convert, {**arrays, name: wrong}, name, str(wrong.shape), str(array.shape))


def test_an_entry_of_too_many_axes_is_named_with_its_shape(network):
    convert, arrays = network
    for name, array in used(arrays).items():
        refuses(convert, {**arrays, name: array[None]}, name, str((1, *array.shape)))


@pytest.mark.parametrize(
    "name",
    ["synthesis.b8.fc1.weight", "synthesis.decoder_img.weight", "synthesis.b4.input.weight"],
)
def test_a_width_that_other_entries_contradict_is_refused(name):
    convert, arrays = NETWORKS["generator"]
    axis = 3 if name.endswith("input.weight") else 0
    refuses(convert, {**arrays, name: np.repeat(arrays[name], 2, axis)}, "entry", "expected")


def test_a_transposed_weight_is_refused():
    convert, arrays = NETWORKS["generator"]
    name = "synthesis.decoder_last.1.weight"
    refuses(convert, {**arrays, name: arrays[name].T}, name)


@pytest.mark.parametrize(
    "name",
    [
        "unheard.of",
        "synthesis.b8.fc2.weight",
        "synthesis.decoder_80.0.weight",
        "synthesis.b8.tores.weight.more",
        "mapping.w_average",
        "b8.fromrgb.weight",
        "not.synthesis.b4.tores.weight",
    ],
)
def test_an_unknown_entry_is_named_with_its_shape(network, name):
    convert, arrays = network
    refuses(convert, {**arrays, name: np.zeros((7, 9))}, name, "(7, 9)")


@pytest.mark.parametrize("convert", NAMES)
def test_no_arrays_at_all_are_refused(convert):
    with pytest.raises(ValueError, match=r"missing|largest block is 0"):
        convert({})


def test_the_arrays_of_the_other_network_are_refused():
    with pytest.raises(ValueError, match=r"largest block is 0"):
        discriminator_from_arrays(UNCONDITIONAL.group("G/"))
    with pytest.raises(ValueError, match=r"largest block is 0|is missing"):
        generator_from_arrays(discriminator_entries(CONDITIONAL))


def test_a_block_that_is_no_power_of_two_is_refused():
    convert, arrays = NETWORKS["generator"]
    with pytest.raises(ValueError, match=r"largest block is 768, expected a power of two"):
        convert({**arrays, "synthesis.b768.fc1.weight": np.zeros((4, 4))})


def test_an_odd_number_of_waves_is_refused():
    convert, arrays = NETWORKS["generator"]
    with pytest.raises(ValueError, match=r"fc1.weight has 3 rows, expected an even number"):
        convert({**arrays, "synthesis.b4.fc1.weight": np.zeros((3, 4))})


def test_the_arrays_of_a_network_without_its_top_block_are_refused():
    convert, arrays = NETWORKS["generator"]
    top = convert(arrays)[0].config.shape[0]
    kept = {k: v for k, v in arrays.items() if not k.startswith(f"synthesis.b{top}.")}
    refuses(convert, kept, f"synthesis.decoder_{top}.0.weight")
