"""Signs that a run goes wrong: noticed in its reports, warned of, and in the end a reason to stop.

A sign of trouble counts from the report before it: what was saved until then is good, and is kept
as long as the trouble lasts. After a tenth of `guard.patience_kimg` comes a warning that says what
to do, after all of it, but never at the first report of a trouble, the run stops.
"""

import math
from collections.abc import Mapping

BLIND = 0.01  # least gap between D's mean logits of reals and of fakes
UNBEATABLE = 0.02  # D's loss: about that of logits of 4.6 and -4.6
LEAKING = 0.9  # ADA's p from which augmentations show in the fakes (Karras et al. 2020, sec. 2.2)


class Diverged(Exception):
    """A run that is not worth going on with; its message says what to do."""


def check_finite(scalars: Mapping[str, float], step: int) -> None:
    """Raises Diverged naming a loss that is not finite."""
    for name, value in scalars.items():
        if name.startswith("loss/") and not math.isfinite(value):
            raise Diverged(
                f"{name} is {value} at step {step}: lower recipe.learning_rate or raise "
                "recipe.r1_gamma"
            )


def troubles(scalars: Mapping[str, float], adaptive: bool) -> dict[str, str]:
    """What is wrong with the means of a report: a name for it -> what is seen and what to do.

    Args:
      scalars: means over the report's steps, by name.
      adaptive: whether p of the augmentation follows the discriminator.
    """
    found = {}
    infinite = [n for n, x in scalars.items() if "gradient_norm" in n and not math.isfinite(x)]
    if infinite:
        found["gradients"] = (
            f"some gradients are not finite ({', '.join(sorted(infinite))}) and are taken as 0: "
            "lower recipe.learning_rate, raise recipe.r1_gamma, or give --config.precision=float32"
        )
    gap = scalars["score/real"] - scalars["score/fake"]
    if gap < BLIND:
        found["blind"] = (
            f"the discriminator does not tell reals from fakes (its mean logits differ by "
            f"{gap:.2g}): lower recipe.r1_gamma or recipe.learning_rate, and look at reals.png"
        )
    if scalars["loss/d"] < UNBEATABLE:
        ada = "" if adaptive else ", use --config.augment.kind=ada"
        found["unbeatable"] = (
            f"the discriminator tells all reals from all fakes (its loss is "
            f"{scalars['loss/d']:.2g}), which teaches the generator nothing: raise "
            f"recipe.r1_gamma{ada}, or add images"
        )
    if adaptive and scalars["augment/p"] > LEAKING:
        found["augment/p"] = (
            f"p of the augmentation has run up to {scalars['augment/p']:.2f}, where augmentations "
            "begin to show in the fakes: add images (data.mirror=True doubles them), raise "
            "recipe.r1_gamma or augment.target"
        )
    return found


class Guard:
    """Follows the troubles of a run from report to report.

    Attributes:
      reported: step of the last report.
      since: trouble that there is now -> step of the last report without it.
    """

    def __init__(
        self, patience_steps: int, adaptive: bool, reported: int, since: Mapping[str, int]
    ) -> None:
        """Of a new run, or of one that continues with what it was saved with."""
        self._patience, self._adaptive = patience_steps, adaptive
        self.reported, self.since = reported, dict(since)

    @property
    def good_until(self) -> int | None:
        """The step up to which there was no trouble, if there is some now."""
        return min(self.since.values(), default=None)

    def watch(self, step: int, scalars: Mapping[str, float]) -> list[str]:
        """Take the means of the steps up to this one; returns warnings.

        Raises:
          Diverged: a loss is not finite, or a trouble has lasted too long.
        """
        check_finite(scalars, step)
        found = troubles(scalars, self._adaptive)
        before, self.reported = self.reported, step
        known, self.since = self.since, {n: self.since.get(n, before) for n in found}
        warnings = []
        for name, text in found.items():
            since = self.since[name]
            if name in known and step - since >= self._patience:
                raise Diverged(
                    f"for {step - since} steps {text}; to go on regardless, raise "
                    "guard.patience_kimg"
                )
            if before - since < self._patience / 10 <= step - since:
                warnings.append(
                    f"for {step - since} steps {text} (in a new run; --config.init_from takes this "
                    "one's weights); if it lasts, this run stops at step "
                    f"{max(since + self._patience, step + 1)}"
                )
        return warnings
