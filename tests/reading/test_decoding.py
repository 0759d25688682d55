"""Ways of decoding that do not work with a memory are refused, whoever asks for them."""

from __future__ import annotations

import time

import pytest
import torch

from tests.support.models import tiny_memoir


@pytest.mark.parametrize(
    "settings",
    [{"assistant_model": "other"}, {"prompt_lookup_num_tokens": 3}, {"prefill_chunk_size": 4}, {"guidance_scale": 1.5},
     {"custom_generate": "x/y"}, {"cache_implementation": "paged"}],
)  # fmt: skip
def test_unsupported_decoding_raises_and_says_why(settings):
    model = tiny_memoir()
    with pytest.raises(ValueError, match="not supported with a memory: "):
        model.generate(torch.tensor([[5, 6]]), **settings)


def test_continuous_batching_is_refused_at_once_until_the_memory_is_detached():
    """It would prepare its cache for a minute before the first pass refuses the prompts that it joins."""
    model = tiny_memoir()
    base, began = model.model, time.perf_counter()
    for call in (
        lambda: base.generate_batch([[5, 6]], max_new_tokens=2),
        lambda: model.generate_batch([[5, 6]]),
        base.init_continuous_batching,
    ):
        with pytest.raises(
            (ValueError, AttributeError),
            match=r"generate_batch.* is not supported with a memory|no attribute 'generate_batch'",
        ):
            call()
    assert time.perf_counter() - began < 20
    model.detach()
    assert "init_continuous_batching" not in vars(base)
