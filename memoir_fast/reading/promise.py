"""How far a calibrated threshold can be relied on: what m unrelated prompts say about a further one."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def allowed(prompts: int, rate: float) -> int:
    """How many of the calibration prompts may read an edit.

    A further prompt then reads one with a chance of at most `rate`, or 1 / (prompts + 1) if that is more, on average
    over calibrations.

    Args:
        prompts: m, the number of calibration prompts.
        rate: 0..1.

    Source: conformal prediction (Vovk et al., 2005).
    """
    return max(0, int(rate * (prompts + 1)) - 1)


def bound(prompts: int, rate: float, confidence: float = CONFIDENCE) -> float:
    """The false-activation rate, 0..1, that a single calibration stays below with this confidence.

    The threshold is an order statistic of the prompts' scores. With a of m scores above it, the chance that a further
    prompt of the same kind is above it too is distributed as Beta(a + 1, m - a) over calibrations. Its quantile is the
    u at which a binomial of m tries with chance u gives at most a with probability 1 - confidence.

    Args:
        prompts: m, the number of calibration prompts.
        rate: the rate that the threshold was calibrated for, 0..1.
        confidence: 0..1.

    Source: Vovk, 2012 (conditional validity of conformal predictors).
    """
    above = allowed(prompts, rate)
    if prompts <= above:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(above, prompts, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(most: int, tries: int, chance: float) -> float:
    """The probability of at most `most` successes in `tries` tries, each with probability `chance`."""
    if not 0 < chance < 1:
        return float(chance <= 0)
    logs = (
        math.lgamma(tries + 1) - math.lgamma(n + 1) - math.lgamma(tries - n + 1)
        + n * math.log(chance) + (tries - n) * math.log1p(-chance)
        for n in range(most + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, logs))
