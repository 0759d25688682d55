"""What settings that are left open become, by the model and by how it is asked."""

from __future__ import annotations

import math


def default_top_k(dimension: int, masks: str = "prompt") -> int:
    """The multiple of 8 nearest to 2D/7 (4096 of 14336, the published ratio), or to D/10 where masks are spread, within
    1..D."""
    share = 2 / 7 if masks == "prompt" else 1 / 10
    return min(dimension, max(8, 8 * round(share * dimension / 8)))


def default_page_edits(dimension: int, masks: str) -> int:
    """How many edits share a page: one for every twelve features (128 on SmolLM2, 1,194 on LLaMA-3-8B) where masks are spread, so that a
    feature is in some thirteen masks; otherwise all of them."""
    return max(1, dimension // 12) if masks == "spread" else 0


NEARLY_FULL = 0.8  # the share of its room from which a memory of one page says how full it is


def room_of(dimension: int, masks: str | None, page_edits: int | None) -> int:
    """How many edits a memory of one page has room for before early ones fade; 0 for one in pages, which does not fill, and where masks are
    the prompts', of which nothing tells it."""
    return 0 if page_edits else default_page_edits(dimension, masks or "prompt")


_LEAST, _MOST = 64, 512  # directions: with fewer no stream was run, and more would take more memory than they keep


def rank_of(dimension: int) -> int:
    """How many of C's largest directions a memory in pages keeps (64 on SmolLM2, 512 on LLaMA-3-8B); 0 where it keeps half of C instead, which
    is small there."""
    rank = dimension // 24
    return min(rank, _MOST) if rank >= _LEAST else 0


def default_masks(router: str, is_chat: bool) -> str:
    """Which features an edit writes to. Where edits are found by words, masks need not be found again from a prompt; and in
    chats, whose answers all begin behind the same header, masks that share few features keep early edits longer."""
    return "spread" if is_chat and router == "tokens" else "prompt"


def default_layer(depth: int) -> int:
    """27/32 of the depth, rounded: layer 27 of 32, the published choice."""
    return min(depth - 1, round(27 * depth / 32))


def default_contexts(is_chat: bool) -> int:
    """How many short contexts an edit is trained behind: none in a chat, where the same header always precedes the
    answer; otherwise all ten."""
    return 0 if is_chat else 10


def default_wordings(is_chat: bool) -> int:
    """How many generated wordings an edit is trained on: two in a chat; none in plain text, where the contexts do their
    job."""
    return 2 if is_chat else 0


def default_stop_token_loss(is_chat: bool, token: str = "") -> float:
    """The largest loss of a single target token at which an edit may stop. In plain text, where an edit is trained on eleven
    texts, the mean loss alone decides, as in the paper. In a chat a token with a digit is learned more firmly: asked in other
    words it is the first to change, and nothing shows that a number with another digit is wrong.

    Args:
        token: its text.
    """
    if not is_chat:
        return math.inf
    return 0.03 if any(map(str.isdigit, token)) else 0.1


def default_acts(is_chat: bool) -> str:
    """Where the memory acts. A chat has a header between question and answer, the same for every wording, so "answer"
    suffices."""
    return "answer" if is_chat else "all"
