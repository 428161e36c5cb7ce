"""Every field of configs/default.py starts a run with another value than its own.

Those of data are tried where images are: in tests/data.
"""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from configs import default
from creps_jax.checkpoint import load_generator
from creps_jax.config import MAY_CHANGE, field_types, flatten
from creps_jax.training import loop, programs

# All at once in one run, so that one step is compiled.
TRAINED = {
    "seed": 7,
    "precision": "bfloat16",
    "total_kimg": 0.016,
    "batch_size": 16,
    "resolution": 8,
    "width": 16,
    "image_channels": 1,
    "generator.z_dim": 6,
    "generator.w_dim": 10,
    "generator.mapping_layers": 1,
    "generator.channel_base": 128,
    "generator.channel_max": 6,
    "generator.biline_channels": 3,
    "generator.thickness": 2,
    "generator.bandwidth": 4.0,
    "discriminator.channel_base": 128,
    "discriminator.channel_max": 6,
    "discriminator.mbstd_group_size": 8,
    "discriminator.mapping_layers": 2,
    "recipe.learning_rate": 0.001,
    "recipe.adam_b2": 0.9,
    "recipe.r1_gamma": 0.5,
    "recipe.r1_interval": 3,
    "recipe.path_length_weight": 1.0,
    "recipe.path_length_decay": 0.1,
    "recipe.path_length_interval": 2,
    "recipe.path_length_batch_shrink": 1,
    "recipe.w_avg_decay": 0.9,
    "recipe.ema_kimg": 0.1,
    "recipe.ema_rampup": 0.5,
    "recipe.freeze_d": 1,
    "augment.p": 0.3,
    "augment.target": 0.5,
    "augment.interval": 1,
    "augment.kimg": 1.0,
    "report.every_kimg": 0.016,
    "report.grid_every_kimg": 0.016,
    "checkpoint.every_kimg": 0.016,
    "checkpoint.keep": 2,
    "guard.patience_kimg": 1.0,
}
# One run each, of the fields above with these, whose phases are traced, not compiled.
TRACED = [
    {"augment.kind": "fixed", "num_classes": 2},
    {"layout.row": 2, "layout.column": 2, "layout.microbatches": 2, "layout.pixel_strips": 2},
]
FINE_TUNED = {"init_from"}


def config_of(changes):
    config = default.get_config()
    config.update_from_flattened_dict({"data.source": "procedural:23", **changes})
    return json.loads(config.to_json())


def close(run):
    for item in (run.checkpoints, run.batches, run.lock):
        item.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    run = loop.prepare(config_of(TRAINED), workdir)
    assert loop.train(run)
    close(run)
    return workdir


def test_every_field_has_a_run_in_which_it_is_another_than_by_default():
    tried = TRAINED | {name: value for changes in TRACED for name, value in changes.items()}
    of_data = {name for name in field_types() if name.startswith("data.")}
    assert tried.keys() | FINE_TUNED | of_data == field_types().keys()
    by_default = flatten(json.loads(default.get_config().to_json()))
    assert not {name for name, value in tried.items() if by_default[name] == value}


def test_a_run_of_other_values_trains_and_paints(trained):
    (line,) = map(json.loads, (trained / "metrics.jsonl").read_text().splitlines())
    assert line["step"] == 1 and {"loss/r1", "loss/path_length", "augment/p"} <= line.keys()
    assert all(np.isfinite(value) for value in line.values())
    generator, _ = load_generator(trained)
    assert generator.config.shape == (8, 16) and generator.config.image_channels == 1


def test_what_may_change_changes_when_a_run_continues(trained, tmp_path):
    others = {"total_kimg": 0.032, "guard.patience_kimg": 2.0, "checkpoint.keep": 3}
    others |= {f"{name}_kimg": 0.032 for name in ("report.every", "checkpoint.every")}
    others |= {"report.grid_every_kimg": 0.032, "data.threads": 2, "data.workers": 1, **TRACED[1]}
    others |= {"data.max_megapixels": 200.0}
    assert others.keys() == MAY_CHANGE
    run = loop.prepare(config_of(TRAINED | others), trained)
    assert run.step == 1 and run.config.total_steps == 2
    close(run)


def labelled_images(folder):
    """A folder of four images of two classes."""
    folder.mkdir()
    for i in range(4):
        Image.new("L", (16, 8), 60 * i).save(folder / f"{i}.png")
    labels = [[f"{i}.png", i % 2] for i in range(4)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return {"data.source": f"folder:{folder}"}


@pytest.mark.parametrize("changes", TRACED)
def test_a_run_of_other_kinds_begins(changes, tmp_path):
    images = labelled_images(tmp_path / "images") if "num_classes" in changes else {}
    run = loop.prepare(config_of(TRAINED | changes | images), tmp_path / "run")
    trace(run.task)
    close(run)


def test_a_run_begins_from_another(trained, tmp_path, capsys):
    run = loop.prepare(config_of(TRAINED | {"init_from": str(trained)}), tmp_path)
    count = len(jax.tree.leaves((run.state.generator, run.state.discriminator, run.state.g_ema)))
    assert (
        f"Fine-tuning {trained}: {count} of {count} arrays are from it" in capsys.readouterr().out
    )
    close(run)


def trace(task):
    for call in programs.calls(task, *programs.abstract_inputs(task)):
        call.function.lower(task, *call.inputs)
