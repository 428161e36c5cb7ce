"""Mutated images and archives end in pixels or a clear error: experiments/data_fuzz.py."""

import subprocess
import sys


def test_thousands_of_mutated_inputs_neither_crash_nor_hang_nor_fill_the_memory():
    command = [sys.executable, "-m", "experiments.data_fuzz", "--count=2000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = done.stdout.splitlines()[-2]
    for kind in ("image read", "image refused", "zip refused", "tar refused", "tfds refused"):
        assert kind in found
