"""Finds out from a forward pass's arguments which tokens are the prompt's and which are padding."""

from __future__ import annotations

from typing import Any

import torch


def is_mask_of(attention: Any, batch: int, length: int) -> bool:
    """Whether an attention mask has one value per token of the forward pass, and so marks its padding."""
    return isinstance(attention, torch.Tensor) and attention.shape == (batch, length)


def check_not_joined(given: dict[str, Any]) -> None:
    """Raise ValueError if a forward pass's arguments join several prompts in one row, paged or packed.

    A packed row may show by its positions alone, which begin anew; transformers keeps the prompts apart by them if there is
    no attention mask.
    """
    places = given.get("position_ids")
    joined = given.get("cu_seq_lens_q") is not None
    if (
        given.get("attention_mask") is None
        and isinstance(places, torch.Tensor)
        and places.dim() == 2
        and places.shape[1] > 1
    ):
        # waits for a GPU, but not in a decode of one token
        joined = joined or bool(((places[:, 1:] == 0) & (places[:, :-1] > 0)).any())
    if joined:
        raise ValueError(
            "the forward pass holds several prompts joined in one row (cu_seq_lens_q: paged or packed; or position_ids that begin anew): "
            "each would need a route of its own. Pass them as rows of a batch, or run it under `with model.disabled():`"
        )


def of_the_call(kept: torch.Tensor | None, attention: Any, batch: int, length: int) -> Any:
    """The attention mask by which a pass inside of `generate` tells its padding: its own, or that of the call.

    Args:
        kept: the call's mask (B, T), given or inferred; None if nothing is padding.
        attention: the pass's, which `generate` may have given another form.
        batch, length: those of the pass, whose batch may be a multiple of the call's.
    """
    if is_mask_of(attention, batch, length):
        return attention
    if kept is not None:
        return kept.repeat_interleave(max(1, batch // len(kept)), dim=0)
    return attention if isinstance(attention, torch.Tensor) and attention.dim() == 2 else None


def prompt_mask_of(
    explicit: torch.Tensor | None, attention_mask: Any, batch: int, length: int, edits: int
) -> torch.Tensor | None:
    """(B, T) bool: the prompts' real tokens, from an explicit mask or else from a 2-D attention mask; None for all
    tokens.

    Args:
        explicit: the caller's `prompt_mask` (B, T), or None.
        attention_mask: the forward pass's, or None.
        batch, length: B and T.
        edits: the number of stored edits; without any, less is checked.

    Raises:
        ValueError: a mask has the wrong shape, or the explicit one selects no token in a row.
    """
    if explicit is not None:
        if explicit.shape != (batch, length):
            raise ValueError(f"prompt_mask must have shape {(batch, length)}, got {tuple(explicit.shape)}")
        mask = explicit.bool()
        if edits and not mask.any(1).all():
            empty = [row for row, some in enumerate(mask.any(1).tolist()) if not some]
            raise ValueError(f"prompt_mask selects no token in rows {empty}: each row needs its prompt's tokens")
        return mask
    if attention_mask is None or edits == 0:
        return None
    if isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 2 and attention_mask.shape[1] > length:
        raise ValueError(
            f"attention_mask has {attention_mask.shape[1]} columns for {length} tokens, and no key-value cache that this library "
            "knows was given: the earlier tokens' route is not known. Pass the cache, or the whole prompt"
        )
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.shape != (batch, length):
        raise ValueError(
            f"attention_mask is not of shape {(batch, length)}, so it does not say which tokens are the prompt's: "
            "pass prompt_mask (bool, that shape) too"
        )
    return attention_mask.bool()
