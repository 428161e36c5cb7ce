"""Runs in this process: requests to stop, every field of a config, how runs begin and end.

All share the programs of one run, all of whose fields have other values than configs/default.py
gives them. Those of data are tried where images are: in tests/data.
"""

import contextlib
import functools
import importlib
import json
import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from configs import default
from creps_jax import cli, devices, sharding
from creps_jax.checkpoint import Checkpoints, load_ema, load_generator, load_networks
from creps_jax.commands import train
from creps_jax.config import FIELDS, MAY_CHANGE
from creps_jax.evaluation import extraction, networks
from creps_jax.evaluation.networks import Network
from creps_jax.evaluation.sets import Fakes, Reals
from creps_jax.fields import flatten
from creps_jax.interop import initial
from creps_jax.interop.exporting import export_networks
from creps_jax.training import determinism, programs
from creps_jax.training.figures import is_better
from creps_jax.training.guards import Guard
from creps_jax.training.requests import requests_blocked, stop_requests
from creps_jax.training.run import prepare, save
from creps_jax.training.state import init_state
from experiments import official_files
from experiments.kill_hunt import arrays as arrays_of
from experiments.kill_hunt import same
from tests.helpers.commands import assert_refused
from tests.helpers.publishers import COUNT, PUBLISH

# All at once, so that one step is compiled.
TRAINED = {
    "seed": 7,
    "precision": "bfloat16",
    "deterministic": True,
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
    "recipe.learning_rate": 0.01,
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
    "recipe.power_averages": True,
    "augment.p": 0.3,
    "augment.target": 0.0,
    "augment.interval": 5,
    "augment.kimg": 0.05,
    "report.every_kimg": 0.016,
    "report.grid_every_kimg": 0.016,
    "report.tensorboard": False,
    "evaluate.metrics": "ppl",
    "evaluate.every_kimg": 1.0,
    "evaluate.images": 12,
    "checkpoint.every_kimg": 0.016,
    "checkpoint.keep": 2,
    "guard.patience_kimg": 1.0,
}
# The fields above with these: what is compiled is traced only.
OF_CLASSES = {"augment.kind": "fixed", "num_classes": 2}
# The run, continued with these; test_step.py trains with them.
LAYOUT = {"layout.row": 2, "layout.column": 2, "layout.microbatches": 2, "layout.pixel_strips": 2}
FINE_TUNED = {"init_from"}


STEP_KIMG = TRAINED["batch_size"] / 1000


def config_of(changes):
    config = default.get_config()
    config.update_from_flattened_dict({"data.source": "procedural:23", **changes})
    return json.loads(config.to_json())


def steps(count):
    """So many, saved at the end."""
    return {name: count * STEP_KIMG for name in ("total_kimg", "checkpoint.every_kimg")}


@contextlib.contextmanager
def prepared(workdir, changes=()):
    """A run that is about to start or to continue, not trained."""
    run = prepare(config_of(TRAINED | dict(changes)), workdir)
    try:
        yield run
    finally:
        for item in (run.checkpoints, run.batches, run.lock):
            item.close()


def finish(workdir, changes=()):
    """The run of the command, to its end."""
    assert train.run(config_of(TRAINED | dict(changes)), workdir, is_dry=False, profiles=False)


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def metrics_of(workdir):
    return [line for line in lines_of(workdir) if "loss/g" in line]


def figures_of(workdir):
    return [line for line in lines_of(workdir) if "loss/g" not in line]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of one step."""
    workdir = tmp_path_factory.mktemp("run")
    finish(workdir)
    return workdir


# Every field.


def test_every_field_has_a_run_in_which_it_is_another_than_by_default():
    tried = TRAINED | OF_CLASSES | LAYOUT
    of_data = {name for name in FIELDS if name.startswith("data.")}
    assert tried.keys() | FINE_TUNED | of_data == FIELDS.keys()
    by_default = flatten(json.loads(default.get_config().to_json()))
    assert not {name for name, value in tried.items() if by_default[name] == value}


def test_a_run_of_other_values_trains_and_paints(trained):
    (line,) = metrics_of(trained)
    assert line["step"] == 1 and {"loss/r1", "loss/path_length", "augment/p"} <= line.keys()
    assert all(np.isfinite(value) for value in line.values())
    assert not list(trained.glob("events.*"))
    generator, _ = load_generator(trained)
    assert generator.config.shape == (8, 16) and generator.config.image_channels == 1


def test_what_may_change_changes_when_a_run_continues(trained):
    others = {"total_kimg": 0.032, "guard.patience_kimg": 2.0, "checkpoint.keep": 3}
    others |= {f"{name}_kimg": 0.032 for name in ("report.every", "checkpoint.every")}
    others |= {
        f"evaluate.{k}": v for k, v in {"metrics": "", "every_kimg": 2.0, "images": 13}.items()
    }
    others |= {"deterministic": False, "report.grid_every_kimg": 0.032, "report.tensorboard": True}
    others |= {"data.threads": 2, "data.workers": 1, "data.max_megapixels": 200.0, **LAYOUT}
    assert others.keys() == MAY_CHANGE
    with prepared(trained, others) as run:
        assert run.step == 1 and run.config.total_steps == 2


def labelled_images(folder):
    """A folder of four images of two classes."""
    folder.mkdir()
    for i in range(4):
        Image.new("L", (16, 8), 60 * i).save(folder / f"{i}.png")
    labels = [[f"{i}.png", i % 2] for i in range(4)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return {"data.source": f"folder:{folder}"}


def test_a_run_of_another_kind_begins(tmp_path):
    with prepared(tmp_path / "run", OF_CLASSES | labelled_images(tmp_path / "images")) as run:
        assert run.task.label_shares == (0.5, 0.5) and not run.task.augment.adaptive
        for call in programs.calls(run.task, *programs.abstract_inputs(run.task)):
            after, _ = call.function.trace(run.task, *call.inputs).out_info
            if call.name != "prepare":
                before = {field: getattr(run.state, field) for field in after}
                assert jax.tree.map(np.shape, after) == jax.tree.map(np.shape, before)


# How runs begin, end and go on.


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """The folder of a run of four steps, for TensorBoard too."""
    workdir = tmp_path_factory.mktemp("longer")
    finish(workdir, {**steps(4), "report.tensorboard": True})
    return workdir


def test_a_run_that_is_lengthened_is_the_longer_run(trained, longer, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "lengthened")
    finish(tmp_path / "lengthened", steps(4))
    assert "Continuing" in capsys.readouterr().out
    # But for its first end, which was evaluated too and may have been the best.
    (step, arrays, data), (same_step, others, other_data) = map(
        arrays_of, (tmp_path / "lengthened", longer)
    )
    assert (step, data | {"best": None}) == (same_step, other_data | {"best": None})
    assert all(map(np.array_equal, arrays, others))


def test_a_run_on_gpus_tells_what_it_asks_of_their_compiler(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sharding, "is_on_gpus", lambda mesh: True)  # The programs are there.
    finish(tmp_path)
    assert same(tmp_path, trained)
    assert (
        "deterministic=True: XLA is asked for deterministic products (G main, G path length, D main"
        ", D R1), convolutions (G main, D main, D R1), scatters (G main, D R1).\n"
    ) in capsys.readouterr().out


def test_the_program_for_a_gpu_has_what_xla_says_it_of(trained):
    with prepared(trained) as run:
        calls = programs.calls(run.task, *programs.abstract_inputs(run.task))
        traced = {call.name: call.function.trace(run.task, *call.inputs) for call in calls}
        for name in ("prepare", "D R1"):
            text = traced[name].lower(lowering_platforms=("cuda",)).as_text()
            expected = [] if name == "prepare" else ["products", "convolutions", "scatters"]
            assert determinism.operations(text) == expected
        first = jax.jit(init_state, static_argnums=0).lower(run.task).as_text()
        assert determinism.operations(first) == []


def test_regularisations_are_reported_at_their_intervals(longer):
    for name, expected in {"loss/r1": [1, 4], "loss/path_length": [1, 3]}.items():
        assert [line["step"] for line in metrics_of(longer) if name in line] == expected


def test_tensorboard_has_the_scalars_and_the_grids(longer):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(longer), size_guidance={"tensors": 0})
    events.Reload()
    written = {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in events.Tensors("loss/g")}
    metrics = metrics_of(longer)
    assert written.keys() == {line["step"] for line in metrics} == {1, 2, 3, 4}
    assert all(abs(written[line["step"]] - line["loss/g"]) < 1e-6 for line in metrics)
    assert {"reals", "fakes"} <= set(events.Tags()["tensors"])


def test_an_average_of_any_length_is_a_checkpoint(longer, tmp_path, capsys):
    """Of a kept one's own length it is that; tests of averages.py have the others."""
    assert [p.name for p in (longer / "averages").iterdir()] == ["00000004.safetensors"]
    with prepared(longer, steps(4)) as run:
        kept = jax.device_get(run.state.power_averages)
    close = functools.partial(np.testing.assert_allclose, atol=1e-6)
    for sigma, average in zip((0.05, 0.1), kept, strict=True):
        out = tmp_path / str(sigma)
        command = "average", f"--workdir={longer}", f"--sigma={sigma}", f"--out={out}"
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == 0 and "of steps up to 4" in result.output, result.output
        jax.tree.map(close, load_ema(out)[0]["params"], average)
    assert CliRunner().invoke(cli.app, command).exit_code == 0  # It is there already.
    result = CliRunner().invoke(cli.app, (*command[:3], f"--out={tmp_path / '0.05'}"))
    assert result.exit_code == 1 and "holds other checkpoints already" in result.stderr
    several = "--sigma=.05,.1", f"--out={tmp_path}", "--metrics=ppl", "--images=2"
    result = CliRunner().invoke(cli.app, (*command[:2], *several))
    assert re.findall(r"(\S+)  ppl \S+  95%", result.output) == ["0.05", "0.1"], result.output
    for wrong in ("--sigma=.3", "--sigma=a"):
        assert_refused(CliRunner().invoke(cli.app, (*command, wrong)), "--sigma", wrong[8:])
    elsewhere = f"--workdir={tmp_path}", command[2], f"--out={tmp_path / 'other'}"
    result = CliRunner().invoke(cli.app, ("average", *elsewhere))
    assert result.exit_code == 1 and "has no snapshots" in result.stderr


# What a run measures of itself.

MEASURED = {"evaluate.metrics": "fd_lite", "evaluate.every_kimg": STEP_KIMG, "evaluate.images": 20}


@contextlib.contextmanager
def seeing(folder):
    """Parts of 8 images, of which a small network sees the means; yields what is seen."""
    starts = []

    def counted(kind, images):
        def seen(self, start, stop):
            starts.append((kind.__name__, start))
            return images(self, start, stop)

        return seen

    means = Network("means", see, np.eye(1, dtype=np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(extraction, "PART", 8)
        patch.setattr(networks, "lite", lambda: means)
        for kind in (Reals, Fakes):
            patch.setattr(kind, "images", counted(kind, kind.images))
        yield starts


def see(variables, images):
    return {"features": images.astype(jnp.float32).mean(axis=(1, 2)) @ variables}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run of four steps with an evaluation after each, and what was seen."""
    folder = tmp_path_factory.mktemp("measured")
    with seeing(folder / "cache") as seen:
        finish(folder / "run", {**steps(4), **MEASURED})
    return folder / "run", seen


def test_figures_are_in_the_logs_and_the_card_and_the_best_is_kept(measured, longer, tmp_path):
    run, seen = measured
    (step, arrays, _), (same_step, others, _) = map(arrays_of, (run, longer))
    assert step == same_step and all(map(np.array_equal, arrays, others))
    found = figures_of(run)
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    for line in found:
        low, value, high = (line[f"figures/fd_lite{end}"] for end in ("/low", "", "/high"))
        assert low <= value <= high
    values = [line["figures/fd_lite"] for line in found]
    best = json.loads((run / "best.json").read_text())
    assert best["metric"] == "fd_lite" and best["value"] == min(values)
    assert best["step"] == 1 + values.index(min(values))
    load_generator(run / best["checkpoint"])
    kept = {int(p.name) for p in (run / "checkpoints").glob("[0-9]*")}
    # The guard may keep the first, too: after four steps D hardly tells reals from fakes.
    assert kept - {0} == {3, 4, best["step"]}
    saved = load_networks(run)
    assert saved.figures == {"evaluated": 4} | {
        name.removeprefix("figures/"): value
        for name, value in found[-1].items()
        if name.startswith("figures/")
    }
    export_networks(run, "npz", tmp_path / "a.npz")
    assert json.loads((tmp_path / "a.npz.json").read_text())["metrics"] == saved.figures
    assert "| metrics | evaluated 4, fd_lite 1" in (tmp_path / "a.npz.md").read_text()
    assert seen.count(("Reals", 0)) == 1 and seen.count(("Fakes", 16)) == 4


def test_a_stop_in_an_evaluation_loses_nothing(measured, tmp_path, monkeypatch, capsys):
    changes, run, write = {**steps(4), **MEASURED}, tmp_path / "run", extraction._write

    def stop_once(path, features):
        write(path, features)
        if seen.count(("Fakes", 8)) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with seeing(tmp_path / "cache") as seen:
        monkeypatch.setattr(extraction, "_write", stop_once)
        assert not train.run(config_of(TRAINED | changes), run, is_dry=False, profiles=False)
        output = capsys.readouterr().out
        assert re.search(
            r"kimg 0.016  fd_lite \S+ \(.*\)  the best; took \S+s, every 0.016", output
        )
        assert "Stopped in an evaluation" in output
        assert [line["step"] for line in figures_of(run)] == [1]
        assert max(int(p.name) for p in (run / "checkpoints").glob("[0-9]*")) == 2
        monkeypatch.setattr(extraction, "_write", write)
        finish(run, changes)
    assert same(run, measured[0]) and figures_of(run) == figures_of(measured[0])
    # Of the second evaluation the third part was begun before the stop.
    assert [seen.count(("Fakes", start)) for start in (0, 8, 16)] == [4, 4, 5]


def test_an_evaluation_that_cannot_be_is_told_and_the_run_goes_on(tmp_path, caplog):
    few = {"data.source": "procedural:5", "evaluate.metrics": "precision_lite"}
    with seeing(tmp_path / "cache"):
        finish(tmp_path / "run", {**steps(4), **MEASURED, **few})
    told = "Step 4 is not evaluated: precision_lite needs 6 reals at least; there are 5"
    assert told in caplog.text
    assert not figures_of(tmp_path / "run") and not (tmp_path / "run" / "best.json").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("fd", "'fd' is no metric; there are fd_lite"),
        ("fid,", "'' is no metric"),
        ("ppl,self_ssim", "self_ssim needs images of 11 x 11 px at least; these have 8 x 16"),
        ("fid", r"\S+/pt_inception-2015-12-05-6726825d.pth: is empty"),
    ],
)
def test_metrics_that_cannot_be_had_are_refused_at_once(tmp_path, monkeypatch, names, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (devices.cache_folder() / "pt_inception-2015-12-05-6726825d.pth").touch()
    with pytest.raises(ValueError, match=f"evaluate.metrics='{names}': {message}"):
        prepare(config_of(TRAINED | {"evaluate.metrics": names}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_only_evaluations_of_as_many_images_are_compared():
    best = {"metric": "fd_lite", "value": 9.0, "fakes": 50, "reals": 23}
    assert is_better(best | {"value": 8.0}, best) and not is_better(best | {"value": 10.0}, best)
    assert is_better(best | {"value": 10.0, "fakes": 60}, best)
    assert is_better(best, best | {"value": float("nan")})
    high = best | {"metric": "recall_lite"}
    assert is_better(high | {"value": 10.0}, high) and is_better(best, high)


def test_a_finished_run_says_so_and_compiles_nothing(trained, capsys):
    finish(trained)
    output = capsys.readouterr().out
    assert "Finished: 1 of 1 steps" in output and "Compiled" not in output


def test_a_dry_run_tells_sizes_and_costs_and_leaves_nothing(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train.run(config_of(TRAINED), None, is_dry=True, profiles=False)
    output = capsys.readouterr().out
    assert '"total_kimg": 0.016' in output and '"z_dim": 6' in output
    parameters = load_ema(trained)[0]["params"]
    count = sum(x.size for x in jax.tree.leaves(parameters))
    assert re.search(rf"^generator +{count:,} parameters$", output, re.M)
    costs = re.findall(
        r"^(prepare|G main|G path length|D main|D R1|finish) +(\d+) .* (\S+)$", output, re.M
    )
    assert [(name, int(every)) for name, every, _ in costs] == [
        *(("prepare", 1), ("G main", 1), ("G path length", 2), ("D main", 1), ("D R1", 3)),
        ("finish", 1),
    ]
    mean = sum(float(gflop) / int(every) for _, every, gflop in costs)
    assert 0 < mean == pytest.approx(float(re.search(r"average (\S+) GFLOP", output)[1]), rel=1e-2)
    assert not list(tmp_path.iterdir())


def test_a_workdir_in_use_and_changed_images_are_errors(tmp_path):
    images = labelled_images(tmp_path / "images")
    (tmp_path / "images" / "dataset.json").unlink()
    with prepared(tmp_path / "run", images) as run:
        with (
            pytest.raises(ValueError, match="another process is training"),
            prepared(tmp_path / "run", images),
        ):
            pass
        save(run)
    with prepared(tmp_path / "run", images) as again:
        assert again.last_saved == again.step == 0
    (tmp_path / "images" / "0.png").rename(tmp_path / "images" / "4.png")
    with pytest.raises(ValueError, match=r"data.source=.* has changed: it has 4 usable images"):
        prepare(config_of(TRAINED | images), tmp_path / "run")
    with pytest.raises(ValueError, match=r"generator\.z_dim: 6 in the checkpoint, 16 now"):
        prepare(config_of(TRAINED | images | {"generator.z_dim": 16}), tmp_path / "run")


def test_a_run_whose_augmentation_runs_away_ends_and_keeps_what_was_good(tmp_path, capsys, caplog):
    # Once D tells reals from fakes, p rises by 1.6 after the tenth step.
    changes = {"total_kimg": 30 * STEP_KIMG, "report.grid_every_kimg": 1.0}
    changes |= {"checkpoint.every_kimg": 2 * STEP_KIMG, "evaluate.metrics": ""}
    impatient = changes | {"guard.patience_kimg": 5 * STEP_KIMG}
    finish(tmp_path, changes | steps(8))
    end = r"Error: for 5 steps p of .* Its checkpoint of step 10 .*--config.init_from="
    with pytest.raises(SystemExit, match=rf"{end}{tmp_path / 'checkpoints' / '10'}"):
        finish(tmp_path, impatient)
    assert "for 1 steps p of the augmentation has run up to" in caplog.text
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*")) == [10, 12, 14]
    with pytest.raises(SystemExit, match=end):
        finish(tmp_path, impatient)
    finish(tmp_path, changes | steps(16))
    output = capsys.readouterr().out
    assert "Continuing" in output and "Finished: 16 of 16 steps" in output


def test_a_run_continues_with_what_its_guard_knew(trained, tmp_path, capsys):
    changes = {"init_from": str(trained)}
    with prepared(tmp_path, changes) as run:
        run.step, run.guard = 6, Guard(100, True, reported=4, since={"blind": 2})
        save(run)
    assert "Fine-tuning" in capsys.readouterr().out
    with prepared(tmp_path, changes) as again:
        output = capsys.readouterr().out
        assert "Continuing" in output and "Fine-tuning" not in output
        assert again.step == 6 and again.guard.reported == 4 and again.guard.since == {"blind": 2}


# Fine-tuning.


def test_a_fine_tuned_run_starts_from_the_other_ones_networks(trained, tmp_path, capsys):
    with prepared(tmp_path, {"init_from": str(trained)}) as run:
        ours = run.state
    count = len(jax.tree.leaves((ours.generator, ours.discriminator, ours.g_ema)))
    output = capsys.readouterr().out
    assert f"Fine-tuning {trained}: {count} of {count} arrays are from it" in output
    theirs, _ = load_ema(trained)
    same = jax.tree.map(np.array_equal, ours.g_ema, theirs)
    assert ours.step == 0 and all(jax.tree.leaves(same))


def test_a_fine_tuned_run_starts_from_an_official_pickle(trained, tmp_path, capsys):
    networks = initial.load_arrays(str(trained))
    file = tmp_path / "official.pkl"
    file.write_bytes(official_files.official_pickle(networks))
    with prepared(tmp_path / "run", {"init_from": str(file)}) as run:
        ours = run.state
    count = len(jax.tree.leaves((ours.generator, ours.discriminator, ours.g_ema)))
    assert f"Fine-tuning {file}: {count} of {count} arrays are from it" in capsys.readouterr().out
    theirs, _ = load_ema(trained)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, ours.g_ema, theirs)))


def test_imported_weights_are_no_run(trained, tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        ema, config = load_ema(trained)
        data = {"imported": "church.pkl"}
        checkpoints.save(0, state={"generator": ema}, ema=ema, data=data, config=config)
    with pytest.raises(ValueError, match=r"from church.pkl, and no run: .*--config.init_from="):
        prepare(config_of(TRAINED), tmp_path)


def test_what_cannot_be_fine_tuned_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "none.npz").touch()
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "words.npz", **{"G/a": np.array(["b"])})
    np.savez(tmp_path / "nan.npz", **{"G/a": np.full(3, np.nan)})
    np.savez(tmp_path / "large.npz", **{"D/a": np.full(3, 1e300)})
    np.savez(tmp_path / "misfit.npz", **{"G/a": np.zeros(3)})
    for name, message in {
        "empty": "no checkpoint",
        "nowhere": "No such file .*nowhere",
        "text.npz": "text.npz: is not an official pickle",
        "none.npz": "none.npz: is empty",
        "one.npy": "one.npy: is not an official pickle",
        "other.npz": "has no entries G/",
        "words.npz": "G/a is of type <U1, not of floats",
        "nan.npz": "entry G/a has numbers that are not finite",
        "large.npz": "entry D/a has numbers that are not finite",
        "misfit.npz": "none of its arrays fits",
    }.items():
        config = config_of(TRAINED | {"init_from": str(tmp_path / name)})
        with pytest.raises(ValueError, match=f"init_from.*{message}"):
            prepare(config, tmp_path / "run")


# The builders' sets.

CONFIGS = {
    "ffhq": "ffhq",
    "metfaces": "metfaces",
    "lsun_church": "church",
    "flickr_scenery": "scenery",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_each_config_trains_on_the_set_that_its_builder_makes(name, tmp_path, monkeypatch, capsys):
    """At a few pixels: the images are reduced."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    manual = tmp_path / "manual" / name
    manual.mkdir(parents=True)
    PUBLISH[name](manual)
    config = importlib.import_module(f"configs.{CONFIGS[name]}").get_config()
    source = config.data.source.removeprefix("tfds:")
    build = ["build", source, f"--manual-dir={manual}", f"--data-dir={tmp_path}", "--any-count"]
    built = CliRunner().invoke(cli.app, build)
    assert built.exit_code == 0, built.output
    config.update_from_flattened_dict(TRAINED | {"data.resize": True})
    workdir = tmp_path / "run"
    assert train.run(json.loads(config.to_json()), workdir, is_dry=False, profiles=False)
    output = capsys.readouterr().out
    assert f"{COUNT} images." in output and "Finished: 1 of 1 steps" in output


# Requests to stop.


def test_a_request_while_the_step_is_compiled_is_obeyed_before_it(tmp_path, monkeypatch, capsys):
    compile_step = programs.compile_step

    def interrupted(task):
        os.kill(os.getpid(), signal.SIGINT)
        return compile_step(task)

    monkeypatch.setattr(programs, "compile_step", interrupted)
    assert not train.run(config_of(TRAINED), tmp_path, is_dry=False, profiles=False)
    output = capsys.readouterr().out
    assert output.index("Compiled the step") < output.index("Stopped after 0 of 1 steps")
    assert [folder.name for folder in (tmp_path / "checkpoints").glob("[0-9]*")] == ["0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_request_to_stop_is_noted_and_a_second_one_acts(number):
    def act(*_):
        raise InterruptedError

    before = signal.signal(number, act)
    try:
        with stop_requests() as received:
            os.kill(os.getpid(), number)
            assert received == [number]
            with pytest.raises(InterruptedError):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is act
    finally:
        signal.signal(number, before)


def test_the_end_of_the_terminal_is_a_request_to_stop():
    with stop_requests() as received:
        os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGHUP]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_the_end_of_the_terminal_is_none_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_decoding_processes_see_no_request(number):
    with requests_blocked():
        assert number in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
