"""A config passes whole and typed, or is refused by an error that names the field and its value."""

import copy
import dataclasses
import itertools
import math
import pathlib
import re
import typing

import pytest

from configs import default
from creps_jax import conditions, config
from creps_jax.fields import check_unchanged, flatten


def base_config():
    """The paper's configuration for images of 512 x 512."""
    return {
        "seed": 7,
        "init_from": "runs/other",
        "precision": "auto",
        "deterministic": False,
        "total_kimg": 25_000.0,
        "batch_size": 32,
        "resolution": 512,
        "width": None,
        "image_channels": 3,
        "num_classes": 0,
        "data": {
            "source": "folder:/images",
            "mirror": True,
            "resize": False,
            "random_crop": False,
            "max_unreadable": 0.01,
            "max_megapixels": 128.0,
            "threads": 4,
            "workers": 0,
        },
        "generator": {
            "z_dim": 512,
            "w_dim": 512,
            "mapping_layers": 8,
            "channel_base": 65536,
            "channel_max": 1024,
            "biline_channels": 32,
            "thickness": 8,
            "bandwidth": 10.0,
        },
        "discriminator": {
            "channel_base": 32768,
            "channel_max": 512,
            "mbstd_group_size": 4,
            "mapping_layers": 8,
        },
        "recipe": {
            "learning_rate": 0.002,
            "adam_b2": 0.99,
            "r1_gamma": 8.2,
            "r1_interval": 16,
            "path_length_weight": 2.0,
            "path_length_decay": 0.01,
            "path_length_interval": 4,
            "path_length_batch_shrink": 2,
            "w_avg_decay": 0.998,
            "ema_kimg": None,
            "ema_rampup": 0.05,
            "power_averages": False,
            "freeze_d": 0,
        },
        "augment": {"kind": "ada", "p": 0.1, "target": 0.6, "interval": 4, "kimg": 500.0},
        "layout": {"row": 1, "column": 1, "microbatches": 1, "pixel_strips": 1},
        "report": {"every_kimg": 4.0, "grid_every_kimg": 200.0, "tensorboard": True},
        "evaluate": {"metrics": "", "every_kimg": 200.0, "images": 10_000},
        "checkpoint": {"every_kimg": 400.0, "keep": 3},
        "guard": {"patience_kimg": 200.0},
    }


def changed(**fields):
    """base_config with other values; section__name stands for section.name."""
    changed = base_config()
    for path, value in fields.items():
        *section, name = path.split("__")
        (changed[section[0]] if section else changed)[name] = value
    return changed


def dotted(path):
    return path.replace("__", ".")


def refuses(given, *words):
    """Parsing raises a ValueError that has all the words in it, each as a whole."""
    with pytest.raises(ValueError) as error:
        config.parse(given)
    for word in words:
        assert re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.]*\w)", str(error.value)), word


ALL_FIELDS = [name.replace(".", "__") for name in config.FIELDS]
NUMBERS = [
    path for path in ALL_FIELDS if not isinstance(flatten(base_config())[dotted(path)], bool | str)
]
WHOLE = [path for path in NUMBERS if type(flatten(base_config())[dotted(path)]) is int]
REAL = [path for path in NUMBERS if path not in WHOLE]
SHARES = [
    "augment__p",
    "augment__target",
    "data__max_unreadable",
    "recipe__adam_b2",
    "recipe__path_length_decay",
    "recipe__w_avg_decay",
]
MAY_BE_ZERO = [
    "seed",
    "num_classes",
    "data__workers",
    "recipe__r1_gamma",
    "recipe__path_length_weight",
    "recipe__ema_kimg",
    "recipe__ema_rampup",
    "recipe__freeze_d",
]


# What the fields are.


def shown_in_default_py(name, field):
    """The line of a field in configs/default.py; two where one would be too long."""
    section, _, last = name.rpartition(".")
    value, meaning = field.default, field.metadata["meaning"]
    if value is None:
        value = f"placeholder({typing.get_args(field.type)[0].__name__})"
    else:
        value = f'"{value}"' if isinstance(value, str) else repr(value)
    line = f"    {section or 'config'}.{last} = {value}"
    one = f"{line}  # {meaning}"
    return [one] if len(one) <= 100 else [f"    # {meaning}", line]


def test_default_py_shows_every_field_as_it_is_declared():
    text = pathlib.Path(default.__file__).read_text()
    lines = text.partition("config = ml_collections.ConfigDict()\n")[2].splitlines()
    shown = [line for line in lines if line and "ConfigDict()" not in line]
    assert shown == [
        *itertools.chain.from_iterable(
            itertools.starmap(shown_in_default_py, config.FIELDS.items())
        ),
        "    return config",
    ]


def test_default_py_has_every_fields_default_and_is_a_config():
    given = default.get_config()
    assert flatten(given.to_dict()) == {n: f.default for n, f in config.FIELDS.items()}
    config.parse(given)


# What is let through.


def test_widths_of_the_512_configuration_follow_the_papers_formula():
    run = config.parse(base_config())
    assert run.generator.channels == (1024, 1024, 1024, 1024, 1024, 512, 256, 128)
    assert run.discriminator.channels == (512, 512, 512, 512, 512, 256, 128, 64)
    assert run.generator.shape == run.discriminator.shape == run.data.shape == (512, 512)
    assert run.generator.num_ws == 17


@pytest.mark.parametrize("resolution", [8, 16, 128, 1024])
def test_resolution_and_num_ws_follow_from_the_widths(resolution):
    generator = config.parse(changed(resolution=resolution)).generator
    levels = int(math.log2(resolution))
    assert len(generator.channels) == levels - 1
    assert generator.shape == (resolution, resolution)
    assert generator.num_ws == 2 * levels - 1
    assert generator.channels[-1] == min(65536 // resolution, 1024)


def test_every_field_arrives_where_it_belongs():
    given = base_config()  # Each number of a section another, so that none passes for another.
    for section in ("data", "generator", "discriminator", "recipe", "augment"):
        for k, (name, value) in enumerate(given[section].items()):
            if name not in ("channel_base", "channel_max", "path_length_batch_shrink", "freeze_d"):
                if type(value) is int:
                    given[section][name] = 101 + k
                elif value is None or type(value) is float:
                    given[section][name] = 0.101 + 0.001 * k
    given["discriminator"]["mbstd_group_size"] = 8
    run = config.parse(given)
    for section in ("data", "generator", "discriminator", "recipe", "augment"):
        ours = dataclasses.asdict(getattr(run, section))
        for name, value in given[section].items():
            if name not in ("channel_base", "channel_max", "kind"):
                assert ours[name] == value, (section, name)
    shared = {"image_channels": 3, "num_classes": 0}
    for part in (run.generator, run.discriminator, run.data):
        assert shared.items() <= dataclasses.asdict(part).items()
    assert (run.seed, run.recipe.batch_size, run.checkpoint.keep) == (7, 32, 3)
    assert (run.report.every_kimg, run.checkpoint.every_kimg) == (4, 400)
    assert (run.steps(4), run.steps(200), run.total_steps) == (125, 6250, 781_250)


def test_a_config_dict_is_as_good_as_a_dict():
    import ml_collections

    assert config.parse(ml_collections.ConfigDict(base_config())) == config.parse(base_config())


def test_parsing_leaves_the_config_as_it_was():
    given = base_config()
    before = copy.deepcopy(given)
    config.parse(given)
    assert given == before


def test_equal_configs_give_equal_hashes_and_others_differ():
    run, again = config.parse(base_config()), config.parse(base_config())
    other = config.parse(changed(generator__thickness=4))
    for part in ("generator", "discriminator", "recipe", "data"):
        assert hash(getattr(run, part)) == hash(getattr(again, part))
    assert hash(run) == hash(again)
    assert len({run, again, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.generator.thickness = 4


@pytest.mark.parametrize(
    "path", [path for path in REAL if path not in ("recipe__adam_b2", "width")]
)
def test_a_whole_number_will_do_for_a_float(path):
    whole, real = (config.parse(changed(**{path: value})) for value in (1, 1.0))
    assert repr(whole) == repr(real)


def test_without_ema_kimg_the_half_life_follows_the_batch():
    assert config.parse(changed(batch_size=64)).recipe.ema_kimg == 20.0
    assert config.parse(changed(batch_size=64, recipe__ema_kimg=7.0)).recipe.ema_kimg == 7.0


@pytest.mark.parametrize(
    ("kimg", "batch_size", "steps"),
    [
        (25_000.0, 32, 781_250),
        (1.0, 32, 32),  # 31.25 steps: the duration is reached, not cut short.
        (0.001, 32, 1),
        (16.1, 10, 1610),  # 16.1 * 1000 / 10 = 1610.0000000000002 must not become 1611 steps.
        (2.01, 10, 201),  # 2.01 * 1000 / 10 = 200.99999999999997.
        (0.0701, 10, 8),
    ],
)
def test_kimg_become_the_whole_steps_that_cover_them(kimg, batch_size, steps):
    fields = {"batch_size": batch_size, "discriminator__mbstd_group_size": 2}
    run = config.parse(changed(**fields, total_kimg=kimg))
    assert run.total_steps == run.steps(kimg) == steps
    assert 2 * steps - 1 <= run.steps(2 * kimg) <= 2 * steps
    assert run.steps(1e-9) == 1


@pytest.mark.parametrize("path", MAY_BE_ZERO)
def test_zero_passes_where_it_means_something(path):
    run = flatten(dataclasses.asdict(config.parse(changed(**{path: 0}))))
    name = path.split("__")[-1]
    values = [value for field, value in run.items() if field.split(".")[-1] == name]
    assert values and not any(values)


def test_what_may_change_between_starts_is_in_the_schema():
    assert config.FIELDS.keys() > config.MAY_CHANGE
    assert {n for n in config.MAY_CHANGE if n.startswith(("generator.", "recipe."))} == set()


def test_a_checkpoint_may_lack_what_may_change_between_starts():
    saved = base_config()
    del saved["deterministic"]
    assert config.parse_saved(saved) == config.parse(base_config())
    del saved["generator"]["thickness"]
    with pytest.raises(ValueError, match=r"lacks generator\.thickness"):
        config.parse_saved(saved)


# What is refused.


@pytest.mark.parametrize("path", ALL_FIELDS)
def test_a_missing_field_is_named(path):
    given = base_config()
    *section, name = path.split("__")
    del (given[section[0]] if section else given)[name]
    refuses(given, dotted(path))


def test_fine_tuning_raises_p_faster_and_averages_at_once():
    unset = {"augment__kimg": None, "recipe__ema_rampup": None}
    new, tuned = (config.parse(changed(**unset, init_from=path)) for path in (None, "runs/x"))
    assert (new.augment.kimg, new.recipe.ema_rampup) == (500, 0.05)
    assert (tuned.augment.kimg, tuned.recipe.ema_rampup) == (100, None)
    assert config.parse(changed(init_from="runs/x")).augment.kimg == 500


def test_no_more_layers_are_frozen_than_there_are():
    assert config.parse(changed(recipe__freeze_d=22)).recipe.freeze_d == 22
    refuses(changed(recipe__freeze_d=23), "recipe.freeze_d=23", "resolution=512")


def test_a_layout_divides_what_it_is_a_layout_of():
    run = config.parse(
        changed(layout__row=2, layout__column=4, layout__microbatches=8, layout__pixel_strips=64)
    )
    assert run.layout == config.LayoutConfig(2, 4, 8, 64)
    for name, value in (("row", 3), ("column", 1024), ("microbatches", 16), ("pixel_strips", 7)):
        refuses(changed(**{f"layout__{name}": value}), f"layout.{name}={value}")
    refuses(changed(layout__row=8, layout__pixel_strips=128), "layout.pixel_strips=128")


@pytest.mark.parametrize("path", ["precision", "augment__kind"])
def test_a_choice_is_one_of_its_kinds(path):
    refuses(changed(**{path: "half"}), f"{dotted(path)}='half'")


def test_the_kind_of_augmentation():
    assert config.parse(changed(augment__kind="none")).augment is None
    assert config.parse(changed(augment__kind="ada")).augment.adaptive
    fixed = config.parse(changed(augment__kind="fixed")).augment
    assert not fixed.adaptive and fixed.p == 0.1
    for p in (0, 0.0):
        refuses(
            changed(augment__kind="fixed", augment__p=p), "augment.kind='fixed'", "augment.p=0.0"
        )


@pytest.mark.parametrize("section", [s for s in config.SECTIONS if s])
def test_of_a_missing_section_every_field_is_named(section):
    given = base_config()
    del given[section]
    refuses(given, *(name for name in config.FIELDS if name.startswith(f"{section}.")))


@pytest.mark.parametrize("path", ["batchsize", "data__resolution", "recipe__gamma"])
def test_an_unknown_field_is_named(path):
    refuses(changed(**{path: 1}), dotted(path))


@pytest.mark.parametrize("path", ALL_FIELDS)
def test_a_value_of_another_type_is_named_with_its_type(path):
    refuses(changed(**{path: ["7"]}), f"{dotted(path)}=['7']", "list")
    wrong = 7.5 if path in WHOLE else "7"
    if type(flatten(base_config())[dotted(path)]) is str:
        wrong = 7
    refuses(changed(**{path: wrong}), f"{dotted(path)}={wrong!r}", type(wrong).__name__)


@pytest.mark.parametrize("path", NUMBERS)
def test_a_bool_is_no_number(path):
    refuses(changed(**{path: True}), f"{dotted(path)}=True", "bool")


@pytest.mark.parametrize("path", ["data__mirror", "data__resize"])
def test_a_number_is_no_bool(path):
    refuses(changed(**{path: 1}), f"{dotted(path)}=1", "bool")


MAY_BE_NONE = (
    "width",
    "recipe__ema_kimg",
    "recipe__ema_rampup",
    "augment__kimg",
    "layout__pixel_strips",
    "init_from",
)


@pytest.mark.parametrize("path", [p for p in ALL_FIELDS if p not in MAY_BE_NONE])
def test_none_passes_for_few_fields_alone(path):
    refuses(changed(**{path: None}), f"{dotted(path)}=None", "NoneType")


@pytest.mark.parametrize("path", NUMBERS)
def test_a_negative_number_is_refused(path):
    value = -1 if path in WHOLE else -0.5
    refuses(changed(**{path: value}), f"{dotted(path)}={value}")


@pytest.mark.parametrize("path", [path for path in NUMBERS if path not in {*MAY_BE_ZERO, *SHARES}])
def test_zero_is_refused_where_it_means_nothing(path):
    refuses(changed(**{path: 0}), dotted(path))


@pytest.mark.parametrize("path", REAL)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
def test_a_number_that_is_not_finite_is_refused(path, value):
    refuses(changed(**{path: value}), f"{dotted(path)}={value}")


@pytest.mark.parametrize("path", SHARES)
def test_a_share_lies_between_0_and_1(path):
    for value in (0, 0.5):
        config.parse(changed(**{path: value}))
    refuses(changed(**{path: -0.5}), f"{dotted(path)}=-0.5")
    refuses(changed(**{path: 1.5}), f"{dotted(path)}=1.5")


@pytest.mark.parametrize("resolution", [1, 2, 4, 34, 500, 513])
def test_a_size_that_cannot_be_halved_down_to_a_small_one_is_refused(resolution):
    refuses(changed(resolution=resolution), f"resolution={resolution}")


@pytest.mark.parametrize("channels", [2, 4])
def test_images_have_one_or_three_channels(channels):
    assert config.parse(changed(image_channels=1)).data.image_channels == 1
    refuses(changed(image_channels=channels), f"image_channels={channels}")


def test_one_class_is_refused_and_two_are_not():
    assert config.parse(changed(num_classes=2)).discriminator.num_classes == 2
    refuses(changed(num_classes=1), "num_classes=1")


def test_a_batch_is_whole_groups_of_the_minibatch_standard_deviation():
    refuses(
        changed(batch_size=30, discriminator__mbstd_group_size=4),
        "batch_size=30",
        "discriminator.mbstd_group_size=4",
    )
    # A group larger than the batch is the batch.
    config.parse(changed(batch_size=6, discriminator__mbstd_group_size=8))


def test_the_path_lengths_share_of_a_batch_is_whole():
    refuses(
        changed(batch_size=32, recipe__path_length_batch_shrink=3),
        "batch_size=32",
        "recipe.path_length_batch_shrink=3",
    )
    refuses(changed(recipe__path_length_batch_shrink=64), "recipe.path_length_batch_shrink=64")


def test_at_least_two_checkpoints_are_kept():
    assert config.parse(changed(checkpoint__keep=2)).checkpoint.keep == 2
    refuses(changed(checkpoint__keep=1), "checkpoint.keep=1")


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_every_block_has_at_least_two_channels(network):
    run = config.parse(changed(**{f"{network}__channel_base": 1024}))
    assert getattr(run, network).channels[-1] == 2
    refuses(
        changed(**{f"{network}__channel_base": 1023}),
        f"{network}.channel_base=1023",
        "resolution=512",
    )


def test_the_fourier_encoding_has_as_many_sines_as_cosines():
    refuses(changed(generator__channel_max=15), "generator.channel_max=15")


@pytest.mark.parametrize(
    ("shape", "base", "blocks"),
    [
        ((512, 256), (8, 4), 7),
        ((256, 512), (4, 8), 7),
        ((48, 32), (6, 4), 4),
        ((24, 24), (6, 6), 3),
    ],
)
def test_images_may_be_higher_or_wider(shape, base, blocks):
    run = config.parse(changed(resolution=shape[0], width=shape[1]))
    assert run.generator.shape == run.discriminator.shape == run.data.shape == shape
    for network in (run.generator, run.discriminator):
        assert network.base == base and len(network.channels) == blocks


def test_a_shape_that_cannot_be_halved_is_refused_with_those_near_by():
    refuses(changed(resolution=500, width=256), "resolution=500", "width=256", "512 x 256")
    refuses(changed(resolution=512, width=64), "resolution=512", "width=64")
    for shape in ((500, 250), (1, 1)):
        near = conditions.trainable_near(shape)
        assert near and all(map(conditions.is_trainable, near))


def test_a_layout_divides_the_side_that_it_splits():
    config.parse(changed(resolution=48, width=64, layout__row=3))
    refuses(changed(resolution=48, width=64, layout__column=3), "layout.column=3", "width=64")


def test_config_differences_are_named_with_both_values():
    old = {"generator": {"channel_base": 16, "widths": [8, 4]}, "report": {"every_kimg": 4.0}}
    current = old | {"generator": {"channel_base": 32, "widths": (8, 4)}, "lr": 0.1}
    saved = old | {"old": {}, "report": {"every_kimg": 5.0}}
    with pytest.raises(ValueError) as error:
        check_unchanged(saved, current, may_change={"report.every_kimg"})
    lines = str(error.value).splitlines()
    assert lines[1:-1] == [
        "  generator.channel_base: 16 in the checkpoint, 32 now",
        "  lr: absent in the checkpoint, 0.1 now",
        "  old: {} in the checkpoint, absent now",
    ]
    assert "--workdir" in lines[-1]


def test_an_allowed_or_no_difference_passes():
    check_unchanged(base_config(), base_config(), may_change=set())
    check_unchanged(base_config(), base_config() | {"seed": 4}, may_change={"seed"})
