"""What a run tells: means of what there was, durations, traces."""

import json

import numpy as np
import pytest

from creps_jax.config import parse
from creps_jax.training.report import duration, forget_after, mean_metrics, profiler
from experiments.kill_hunt import tiny_config


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.6, "1m 00s"), (306, "5m 06s"), (11040, "3h 04m"), (93600, "1d 02h")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_a_metric_is_the_mean_over_the_steps_that_have_it():
    steps = [{"a": np.float32(1), "b": np.float32(5)}, {"a": np.float32(2)}]
    assert mean_metrics(steps) == {"a": 1.5, "b": 5.0}


def test_a_run_that_ends_before_its_trace_is_an_error(tmp_path):
    config = parse(tiny_config({"total_kimg": 0.08}))
    with pytest.raises(ValueError, match="traces steps 13 to 21, but the run ends at step 20"):
        profiler(tmp_path, config, 3)


def test_metrics_of_steps_that_will_be_done_again_are_forgotten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step}) for step in (1, 2, 3, 4)]
    path.write_text("\n".join(lines) + '\n{"step": 5, "lo')  # Killed while writing.
    forget_after(path, 2)
    assert path.read_text() == "\n".join(lines[:2]) + "\n"
    forget_after(tmp_path / "absent.jsonl", 2)
