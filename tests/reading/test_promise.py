"""What is promised of a calibrated threshold is what happens, over very many calibrations."""

from __future__ import annotations

import numpy as np
import pytest

from memoir_fast.reading.promise import allowed, bound


@pytest.mark.parametrize(("prompts", "rate"), [(60, 0.05), (400, 0.005), (50, 0.001)])
def test_the_rate_holds_on_average_and_the_bound_with_its_confidence(prompts, rate):
    """Uniform scores: then the chance that a further prompt lies above a threshold t is 1 - t."""
    scores = np.sort(np.random.default_rng(0).random((20_000, prompts)), axis=1)[:, ::-1]
    true = 1 - scores[:, allowed(prompts, rate)]  # as `WordThreshold` chooses it
    assert true.mean() <= max(rate, 1 / (prompts + 1)) * 1.03
    for confidence in (0.5, 0.95):
        assert abs((true <= bound(prompts, rate, confidence)).mean() - confidence) < 0.01
    assert bound(prompts, rate) > max(rate, 1 / (prompts + 1))  # a single calibration promises less than the average


def test_more_prompts_promise_more_and_none_promise_nothing():
    bounds = [bound(prompts, 0.01) for prompts in (0, 50, 400, 5000)]
    assert bounds[0] == 1 and bounds == sorted(bounds, reverse=True) and 0.01 < bounds[-1] < 0.013
