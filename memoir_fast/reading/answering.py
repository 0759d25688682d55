"""Generating with a memory: transformers' own `generate`, with what a memory cannot follow refused, and plain questions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ..base.running import device_of
from ..config import MemoirConfig
from ..memory.selection import Tags, check_tags
from ..text.encoder import Encoder, Sequence
from .explain import explain
from .index_file import read_index, write_index
from .router import Router


class Answering:
    """Forward passes, generation and questions, for whatever has a model with a router attached; `MemoirModel` inherits it.

    Attributes:
        model: the causal language model; inner: the model inside, which runs; tokenizer, encoder: its texts to tokens and back; router: its router.
        config: `batch_size` questions are asked at a time.
    """

    model: Any
    inner: Any
    tokenizer: Any
    encoder: Encoder
    router: Router
    config: MemoirConfig

    def only(self, tags: Iterable[str], untagged: bool = False) -> contextlib.AbstractContextManager[None]:
        """A context in which this thread's (or coroutine's) prompts are matched only with edits that carry one of `tags`; with
        `untagged` also with those that carry none."""
        return self.router.only(Tags(frozenset(check_tags(tags)), untagged))

    def disabled(self) -> contextlib.AbstractContextManager[None]:
        """A context in which this thread's (or coroutine's) forward passes and generations are the base model's."""
        return self.router.disabled()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The base model's forward pass, with the memory; `prompt_mask` (B, T) bool says which tokens route.

        Without it every token that the attention mask keeps is taken for the prompt's: pass it where the sequence also
        holds a target. The route is decided when the cache is empty and kept with the cache.
        """
        return self.model(*args, **kwargs)

    def generate(self, inputs: torch.Tensor | Mapping | None = None, *, prompt_mask: torch.Tensor | None = None,
                 edits: dict | None = None, **kwargs: Any) -> Any:  # fmt: skip
        """transformers' `generate`: sampling, beams, several returned sequences, streamers, batches of mixed prompts.

        Args:
            inputs: (B, T) token ids (or `input_ids=`), padded left or right with an attention mask; or what a tokenizer returns, with both.
            prompt_mask: (B, T) bool, the tokens that route. By default those of the last user message of a rendered chat, else all that the
                attention mask keeps; with router="mask" always the latter.
            edits: which edits may be read, {"tags": [...], "untagged": bool}; see `only`. All active ones when None.
            kwargs: as for transformers.

        Raises:
            ValueError: a way of decoding that a memory cannot follow; the message says why.
        """
        if isinstance(inputs, Mapping):
            twice = sorted(inputs.keys() & kwargs.keys())
            if twice:
                raise TypeError(f"generate: {twice} are given twice, in inputs and by name")
            kwargs, inputs = {**inputs, **kwargs}, None
        call = (
            self.model.generate if hasattr(self.model, "generate") else self.inner.generate
        )  # DDP has none of its own
        chosen = contextlib.nullcontext() if edits is None else self.router.only(_tags(edits))
        with chosen, self.router.session(prompt_mask):
            return call(inputs, **kwargs) if inputs is not None else call(**kwargs)

    def ask(self, prompts: Any, max_new_tokens: int = 32, **kwargs: Any) -> Any:
        """Greedy answers: text in, the continuation's text out.

        Args:
            prompts: a text, a list of texts, or (in a chat format) lists of chat messages.
            max_new_tokens: most tokens of an answer.
            kwargs: as for `generate`.

        Returns:
            one answer, or a list of answers for a list; with `num_return_sequences` above 1, a list of so many answers in place of each.
            Always texts: what `return_dict_in_generate` adds to them, `generate` returns.
        """
        single, queries = _listed(prompts)
        size = self.config.batch_size
        answers: list[Any] = []
        for start in range(0, len(queries), size):
            answers += self._answers(queries[start : start + size], max_new_tokens, kwargs)
        return answers[0] if single else answers

    @torch.no_grad()
    def route(self, prompts: Any, top: int = 5) -> Any:
        """Which stored edit a prompt reads, and why: decided as a forward pass decides it.

        Args:
            prompts: a text, a list of texts, or lists of chat messages; as for `ask`.
            top: most candidates to tell.

        Returns:
            for one prompt (a list of these for a list): {"edit": its id or None, "score": 0..1 of the likeliest edit, "threshold": the
            score from which it would be read, "candidates": [{"edit", "score", ...}], likeliest first}. With router="tokens" a
            candidate also says "wording" (0: the prompt, else the number of the rephrasing), "kept_out" ("not_prompts" or "subject"
            where these keep it out; its score is then the one that it would have had), "covered" and "missing": the stored wording's
            words that the prompt has and lacks, and "added", the prompt's important words that the wording lacks.
        """
        single, queries = _listed(prompts)
        sequences = [self._encoded(query) for query in queries]
        found = explain(self.inner, self.router, sequences, top, self.config.batch_size)
        return found[0] if single else found

    def write_index(self, path: str) -> list[tuple[int, int] | None]:
        """Write the index in which candidates are found to a file that `faiss.read_index_binary` reads: an `IndexBinaryFlat`, by words of the
        wordings' summed word codes, by masks of the edits' signatures.

        Returns:
            what each of its rows belongs to: (edit, wording), with wording 0 for the prompt, n for the nth rephrasing and -1 for one of
            `not_prompts`; None for a row whose edit can be found no longer.
        """
        return write_index(self.router, path)

    def read_index(self, path: str) -> None:
        """Look candidates up in an index that `write_index` wrote; wordings that came later are added to it.

        Raises:
            ValueError: it is no such file, or its codes are not those of this memory's first rows.
        """
        read_index(self.router, path)

    def _encoded(self, query: Any) -> Sequence:
        return self.encoder.chat(query) if isinstance(query, list) else self.encoder.prompt(query)

    @torch.no_grad()
    def _answers(self, queries: list, max_new_tokens: int, kwargs: dict[str, Any]) -> list[Any]:
        sequences = [self._encoded(query) for query in queries]
        width = max(len(s.tokens) for s in sequences)
        tokens = torch.zeros(len(sequences), width, dtype=torch.int64)
        attention = torch.zeros_like(tokens)
        words = torch.zeros(len(sequences), width, dtype=torch.bool)
        for row, s in enumerate(sequences):  # left padding: generation goes on at the right end
            tokens[row, width - len(s.tokens) :] = torch.tensor(s.tokens)
            attention[row, width - len(s.tokens) :] = 1
            words[row, width - len(s.tokens) :] = torch.tensor(s.prompt_mask)
        device = device_of(self.inner)
        settings = {"do_sample": False, "num_beams": 1, "pad_token_id": self._pad_token, **kwargs}
        if self.encoder.stops:
            settings.setdefault("eos_token_id", list(self.encoder.stops))
        out = self.generate(tokens.to(device), prompt_mask=words.to(device), attention_mask=attention.to(device),
                            max_new_tokens=max_new_tokens, **settings)  # fmt: skip
        sequences_out = out if isinstance(out, torch.Tensor) else out.sequences
        texts = self.tokenizer.batch_decode(sequences_out[:, width:], skip_special_tokens=True)
        each = len(texts) // len(queries)
        return texts if each == 1 else [texts[n : n + each] for n in range(0, len(texts), each)]

    @property
    def _pad_token(self) -> int:
        tokenizer = self.tokenizer
        return next(t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if t is not None)


def _listed(prompts: Any) -> tuple[bool, list]:
    """Whether it is one prompt, and the prompts as a list."""
    single = isinstance(prompts, str) or bool(prompts and isinstance(prompts[0], dict))
    return single, [prompts] if single else list(prompts)


def _tags(edits: dict) -> Tags:
    if not isinstance(edits, dict) or not {"tags"} <= edits.keys() <= {"tags", "untagged"}:
        raise TypeError(f'edits must be {{"tags": [...]}} with "untagged" or without, got {edits!r}')
    return Tags(frozenset(check_tags(edits["tags"])), bool(edits.get("untagged", False)))
