"""What a user gets wrong on the command line of a training run ends in one line, at once."""

import errno
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

from creps_jax.commands import train as train_command
from creps_jax.training import loop, run

ROOT = pathlib.Path(__file__).parents[1]
DEMO = "--config=configs/demo.py"
BROKEN = {
    "syntax.py": "def get_config(:\n",
    "number.py": "def get_config():\n    return 3\n",
    "empty.py": "",
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    for name, text in BROKEN.items():
        (folder / name).write_text(text)
    return folder


def train(*flags, **environment):
    command = [sys.executable, "-m", "creps_jax.main", *flags]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([DEMO, "--config.bach_size=4"], "Error: the config has no field bach_size"),
        ([DEMO, "--config.batch_size=four"], "Error: .*--config.batch_size=four: invalid"),
        (["--config=configs/none.py"], "Error: --config: .*configs/none.py"),
        (["--config=configs/none.py", "--config.seed=1"], "Error: --config: .*configs/none.py"),
        (["--config={}/syntax.py"], "Error: --config: .*syntax.py, line 1"),
        (["--config={}/number.py"], r"Error: --config .*get_config\(\) returns a ConfigDict"),
        (["--config={}/empty.py"], r"Error: --config .*get_config\(\) returns a ConfigDict"),
        ([DEMO, "--dryrun"], "Error: Unknown command line flag 'dryrun'. Did you mean: dry_run"),
        ([DEMO, "--processes=two"], "Error: flag --processes=two: invalid literal"),
        ([DEMO, "again"], "Error: unexpected arguments: again"),
        ([], "Error: --config is missing"),
    ],
)
def test_a_wrong_config_is_one_line(configs, tmp_path, flags, expected):
    workdir = tmp_path / "run"
    result = train(*(flag.format(configs) for flag in flags), f"--workdir={workdir}")
    assert result.returncode == 1
    assert re.match(expected, result.stderr) and len(result.stderr.splitlines()) == 1
    assert not workdir.exists()


@pytest.mark.parametrize("workdir", [[], ["--workdir="]])
def test_a_run_has_a_workdir(workdir):
    result = train(DEMO, *workdir)
    assert result.returncode == 1
    assert "--workdir is missing" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_is_no_error_and_shows_our_flags_alone(flag):
    result = train(flag)
    assert result.returncode == 0 and result.stderr == ""
    assert "--workdir: Folder of the run" in result.stdout and "75  " in result.stdout
    assert "verbosity" not in result.stdout


def test_a_device_that_is_not_there_is_one_line(tmp_path):
    result = train(DEMO, f"--workdir={tmp_path}/run", JAX_PLATFORMS="cuda")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "JAX_PLATFORMS=cuda: unset it, or pip install 'creps-jax[cuda]'" in result.stderr
    assert "'creps-jax[cuda12]' with older drivers" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_workdir_in_a_bucket_of_another_kind_is_one_line(tmp_path):
    result = train(DEMO, "--workdir=s3://bucket/run")
    assert result.returncode == 1
    assert result.stderr == (
        "Error: --workdir: s3://bucket/run is nothing on a disk of this machine\n"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/demo/metrics.jsonl"),
            "Error: [Errno 28] No space left on device: 'runs/demo/metrics.jsonl'; make room; the "
            "same command continues from the last checkpoint",
        ),
        (
            OSError(errno.EIO, "Input/output error", "runs/demo"),
            "Error: [Errno 5] Input/output error: 'runs/demo'; the same command continues from the "
            "last checkpoint",
        ),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n\n"),
            "Error: the device (cpu) is out of memory (RESOURCE_EXHAUSTED: Out of memory "
            "allocating 9 bytes); share a batch among more devices, raise layout.microbatches, "
            "layout.pixel_strips or layout.row, or end what else uses the device",
        ),
    ],
)
def test_what_ends_a_step_is_one_line(monkeypatch, error, told):
    def fail(*_):
        raise error

    monkeypatch.setattr(run, "prepare", lambda *_: None)
    monkeypatch.setattr(loop, "train", fail)
    with pytest.raises(SystemExit, match=re.escape(told)):
        train_command.run({}, "runs/demo", is_dry=False, profiles=False)
