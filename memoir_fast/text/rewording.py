"""Wordings made from a prompt, for training: what they have in common with it is what a rewording keeps."""

from __future__ import annotations

# Words that shape a question and say nothing of what it asks for; of other languages none, whose prompts then keep all their words.
_SHAPING = frozenset(
    "the a an of is was were are be been in on at to for by with and or did does do what which who whom whose when where how why that this "
    "these those it its from as has have had will would can could should name there".split()
)
_REQUEST = "Can you tell me: "


def reworded(prompt: str) -> list[str]:
    """The prompt's bare keywords, and the prompt as a request; those that differ from it.

    Args:
        prompt: any text, stripped of outer blanks.
    """
    keywords = " ".join(word for word in prompt.split() if word.lower().strip("?.,!:;") not in _SHAPING)
    return [text for text in (keywords, _REQUEST + prompt) if text and text != prompt]
