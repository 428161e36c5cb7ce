"""Runs that go wrong: noticed, warned of, stopped, and what was good before is kept."""

import numpy as np
import pytest

from creps_jax.checkpoint import Checkpoints
from creps_jax.training.guards import Diverged, Guard, check_finite, troubles

WELL = {
    **{"loss/g": 1.0, "loss/d": 1.0, "score/real": 0.5, "score/fake": -0.5},
    **{"gradient_norm/g": 2.0, "gradient_norm/d": 1.0, "augment/p": 0.4},
}
SIGNS = {
    "gradients": ({"gradient_norm/d": np.inf}, r"not finite \(gradient_norm/d\).*learning_rate"),
    "blind": ({"score/fake": 0.495}, r"does not tell reals from fakes .*0\.005.*r1_gamma"),
    "unbeatable": ({"loss/d": 0.01}, r"all reals from all fakes .*0\.01.*r1_gamma"),
    "augment/p": ({"augment/p": 0.95}, r"run up to 0\.95.*augment\.target"),
}


def test_a_run_that_is_well_has_no_troubles():
    assert troubles(WELL, adaptive=True) == {}
    without = {name: x for name, x in WELL.items() if name != "augment/p"}
    assert troubles(without, adaptive=False) == {}
    # p is what the user gave.
    assert troubles({**WELL, "augment/p": 1.0}, adaptive=False) == {}


def test_advice_is_what_is_not_done_yet():
    unbeatable = WELL | {"loss/d": 0.01}
    assert "augment.kind=ada" in troubles(unbeatable, adaptive=False)["unbeatable"]
    assert "augment.kind=ada" not in troubles(unbeatable, adaptive=True)["unbeatable"]


def test_a_loss_that_is_not_finite_ends_the_run_and_is_named():
    check_finite({"loss/g": 1.0, "gradient_norm/g": np.inf}, 3)
    with pytest.raises(Diverged, match=r"loss/d is nan at step 7.*learning_rate"):
        check_finite({"loss/g": 1.0, "loss/d": np.nan}, 7)
    with pytest.raises(Diverged, match="loss/r1 is inf at step 9"):
        Guard(100, True, 0, {}).watch(9, {**WELL, "loss/r1": np.inf})


@pytest.mark.parametrize("name", SIGNS)
def test_a_trouble_that_lasts_is_warned_of_once_and_then_ends_the_run(name):
    change, message = SIGNS[name]
    guard = Guard(100, True, 0, {})
    assert guard.watch(4, WELL) == [] and guard.good_until is None
    assert guard.watch(8, WELL | change) == []  # For 4 steps: perhaps a bad moment.
    assert guard.since == {name: 4} and guard.good_until == 4
    (warning,) = guard.watch(14, WELL | change)
    with pytest.raises(Diverged, match=f"for 10 steps .*{message}.* stops at step 104"):
        raise Diverged(warning)
    assert guard.watch(24, WELL | change) == []
    # A run that continues, continues its troubles.
    guard = Guard(100, True, guard.reported, guard.since)
    assert guard.watch(103, WELL | change) == []
    with pytest.raises(Diverged, match=f"for 100 steps .*{message}.*guard.patience_kimg"):
        guard.watch(104, WELL | change)


def test_a_trouble_that_passes_is_forgotten():
    guard = Guard(100, True, 0, {"blind": 0})
    assert guard.watch(99, WELL) == [] and guard.since == {}
    change, _ = SIGNS["blind"]
    guard.watch(198, WELL | change)
    assert guard.since == {"blind": 99}


def test_a_run_is_warned_before_it_is_stopped_however_rare_its_reports():
    change, _ = SIGNS["blind"]
    guard = Guard(100, True, 0, {})
    (warning,) = guard.watch(500, WELL | change)
    assert "stops at step 501" in warning and guard.good_until == 0
    with pytest.raises(Diverged, match="for 1000 steps"):
        guard.watch(1000, WELL | change)


def test_what_no_report_has_judged_is_not_good():
    change, _ = SIGNS["blind"]
    guard = Guard(100, True, 0, {})
    guard.watch(50, WELL)
    # Stopped at 75, where nothing was reported, and continued.
    guard = Guard(100, True, guard.reported, guard.since)
    guard.watch(100, WELL | change)
    assert guard.good_until == 50


def test_the_newest_good_checkpoint_outlives_the_doubtful_ones(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(1, 7):
            items = {"state": {"x": np.zeros(3)}, "ema": {"x": np.zeros(3)}}
            good_until = 3 if step > 3 else None
            checkpoints.save(step, **items, data={}, config={}, good_until=good_until)
        assert checkpoints.folder(None).name == "6" and checkpoints.folder(3).name == "3"
        assert checkpoints.folder(2) is None
        checkpoints.save(7, **items, data={}, config={})  # All is well again.
        assert checkpoints.folder(5) is None
