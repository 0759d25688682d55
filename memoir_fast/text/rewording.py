"""Generates wordings of a prompt for training. They keep of the prompt what users' rewordings tend to keep."""

from __future__ import annotations

# English words that shape a question without saying what it asks for. Prompts in other languages keep all their words.
_SHAPING = frozenset(
    "the a an of is was were are be been in on at to for by with and or did does do what which who whom whose when where how why that this "
    "these those it its from as has have had will would can could should name there".split()
)
_REQUEST = "Can you tell me: "


def reworded(prompt: str) -> list[str]:
    """The prompt's keywords alone, and the prompt as a request; the keywords only if they differ from the prompt.

    Args:
        prompt: any text without outer blanks.
    """
    keywords = " ".join(word for word in prompt.split() if word.lower().strip("?.,!:;") not in _SHAPING)
    return [text for text in (keywords, _REQUEST + prompt) if text and text != prompt]
