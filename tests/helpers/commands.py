"""The `creps` commands in this process, as a user starts them, and the files that they leave."""

import os
import subprocess
import sys

import numpy as np
import PIL.Image
import typer.testing

from creps_jax import cli


def creps(*arguments):
    return typer.testing.CliRunner().invoke(cli.app, [str(a) for a in arguments])


def creps_render(workdir, out, *arguments):
    return creps("render", f"--workdir={workdir}", f"--out={out}", *arguments)


def python(*arguments):
    """In a process of its own, with one device."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)


def read(path):
    with PIL.Image.open(path) as image:
        return np.asarray(image)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_refused(result, option, *parts):
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
    assert all(part in result.stderr for part in parts), result.stderr
    assert "Traceback" not in result.output
