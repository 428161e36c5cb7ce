"""The `creps` command as a whole."""

import creps_jax
from tests.helpers.commands import creps, python


def test_version_and_help_answer_without_importing_jax():
    script = (
        "import sys, typer.testing as t; from creps_jax import cli;"
        "[print(t.CliRunner().invoke(cli.app, a.split()).output)"
        " for a in ('--version', '--help', 'render --help')];"
        "assert not {'jax', 'flax', 'orbax', 'numpy'} & sys.modules.keys()"
    )
    printed = python("-c", script).stdout
    assert f"creps {creps_jax.__version__}\n" in printed
    assert "HEIGHTxWIDTH" in printed and "--class" in printed


def test_help_has_a_short_name_in_all_commands():
    for command in ((), ("render",), ("video",), ("dataset",), ("build",)):
        short, long = creps(*command, "-h"), creps(*command, "--help")
        assert short.exit_code == 0 and short.stdout == long.stdout and "Usage" in long.stdout
