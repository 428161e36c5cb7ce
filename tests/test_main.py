"""What a user gets wrong on the command line of a training run ends in one line, at once."""

import pathlib
import re
import subprocess
import sys

import pytest

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


def train(*flags):
    command = [sys.executable, "-m", "creps_jax.main", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([DEMO, "--config.bach_size=4"], "Error: the config has no field bach_size"),
        ([DEMO, "--config.batch_size=four"], "FATAL Flags .*--config.batch_size=four: invalid"),
        (["--config=configs/none.py"], "Error: --config: .*configs/none.py"),
        (["--config=configs/none.py", "--config.seed=1"], "Error: --config: .*configs/none.py"),
        (["--config={}/syntax.py"], "Error: --config: .*syntax.py, line 1"),
        (["--config={}/number.py"], r"Error: --config .*get_config\(\) returns a ConfigDict"),
        (["--config={}/empty.py"], r"Error: --config .*get_config\(\) returns a ConfigDict"),
    ],
)
def test_a_wrong_config_is_one_line(configs, tmp_path, flags, expected):
    workdir = tmp_path / "run"
    result = train(*(flag.format(configs) for flag in flags), f"--workdir={workdir}")
    assert result.returncode == 1
    assert re.match(expected, result.stderr) and len(result.stderr.splitlines()) <= 2
    assert not workdir.exists()


@pytest.mark.parametrize("workdir", [[], ["--workdir="]])
def test_a_run_has_a_workdir(workdir):
    result = train(DEMO, *workdir)
    assert result.returncode == 1
    assert "--workdir is missing" in result.stderr and "Traceback" not in result.stderr
