"""Generation with a memory, through transformers' own `generate`, and plain questions; `MemoirModel` inherits this."""

from __future__ import annotations

import contextlib
import copy
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
from .usage import usage


class Answering:
    """The answering methods of an object that has a model with a router attached.

    Attributes:
        model: the causal language model, possibly in a wrapper.
        inner: the model inside the wrapper.
        tokenizer, encoder: turn texts into tokens and back.
        router: the memory's router.
        config: the settings; questions are asked in batches of `batch_size`.
    """

    model: Any
    inner: Any
    tokenizer: Any
    encoder: Encoder
    router: Router
    config: MemoirConfig

    def only(self, tags: Iterable[str], untagged: bool = False) -> contextlib.AbstractContextManager[None]:
        """A context in which this thread or coroutine reads only edits with one of `tags`; with `untagged`, also those
        without tags.

        Raises TypeError or ValueError for bad tags.
        """
        return self.router.only(Tags(frozenset(check_tags(tags)), untagged))

    def disabled(self) -> contextlib.AbstractContextManager[None]:
        """A context in which this thread or coroutine uses the base model, without the memory."""
        return self.router.disabled()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's forward pass with the memory.

        The keyword `prompt_mask`, (B, T) bool, marks the prompt's tokens, by which the edit is found. Pass it if the
        sequence also holds a target; its default is as in `generate`. The edit is chosen when the cache is empty, and
        kept with the cache.
        """
        return self.model(*args, **kwargs)

    def generate(self, inputs: torch.Tensor | Mapping | None = None, *, prompt_mask: torch.Tensor | None = None,
                 edits: dict | None = None, **kwargs: Any) -> Any:  # fmt: skip
        """transformers' `generate`: sampling, beams, several returned sequences, streamers, batches of mixed prompts.

        Args:
            inputs: (B, T) token ids (or `input_ids=`), padded left or right with an attention mask; or what a tokenizer
                returns, with both.
            prompt_mask: (B, T) bool, the tokens by which the edit is found. The default is the last user message of a
                rendered chat; without one, or with router="mask", all tokens that the attention mask keeps.
            edits: the edits that may be read, {"tags": [...], "untagged": bool}, see `only`; None for all active ones.
            kwargs: as for transformers.

        Raises:
            TypeError: an argument is given twice, or `edits` has another form.
            ValueError: the way of decoding does not work with a memory; the message says why.
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
        """Greedy answers as texts.

        Args:
            prompts: a text, a list of texts, or (in a chat format) one or more lists of chat messages.
            max_new_tokens: the most tokens per answer.
            kwargs: as for `generate`. What a `generation_config` sets counts, `max_new_tokens` too; what it leaves open is greedy.

        Returns:
            one answer, or for a list a list of answers; with `num_return_sequences` above 1, each answer is a list of
            that many. Always texts; use `generate` for what `return_dict_in_generate` adds.

        Raises:
            TypeError, ValueError: a prompt is empty, too long or malformed (see `Encoder`), or as `generate`.
        """
        single, queries = _listed(prompts)
        size = self.config.batch_size
        answers: list[Any] = []
        for start in range(0, len(queries), size):
            answers += self._answers(queries[start : start + size], max_new_tokens, kwargs)
        return answers[0] if single else answers

    @torch.no_grad()
    def route(self, prompts: Any, top: int = 5) -> Any:
        """Which stored edit a prompt reads, and why. The decision is the same as in a forward pass.

        Args:
            prompts: as for `ask`.
            top: the most candidates to return.

        Returns:
            for one prompt a dictionary, for a list a list of them:
            "edit": the id of the edit that is read, or None;
            "score": 0..1, of the likeliest edit;
            "threshold": the score from which that edit would be read;
            "candidates": dictionaries with "edit" and "score", likeliest first. With router="tokens" they also hold
            "wording" (0 for the prompt, n for the nth rephrasing); "kept_out" ("not_prompts" or "subject" if one of
            these excludes the edit, whose score is then what it would have been); "covered" and "missing", the stored
            wording's words that the prompt has and lacks; and "added", the prompt's important words that the wording
            lacks.

        Raises:
            TypeError, ValueError: a prompt is empty, too long or malformed; see `Encoder`.
        """
        single, queries = _listed(prompts)
        sequences = [self._encoded(query) for query in queries]
        found = explain(self.inner, self.router, sequences, top, self.config.batch_size)
        return found[0] if single else found

    def usage(self, prompts: Any) -> dict[str, Any]:
        """How often prompts read each edit, which edits none of them reads, and which prompts nearly read one. Nothing is answered.

        Args:
            prompts: as for `ask`.

        Returns:
            "edits": for each edit that is read or nearly read, id -> {"reads", "nearly_read"}, those read most often first;
            "never": the ids of the active edits that no prompt reads;
            "nearly": what was nearly read, dictionaries with "prompt" (its number in the list), "edit", "score" and "threshold", the nearest first. A
            prompt nearly reads its likeliest edit if it reads none and its score is at least 0.8 of that edit's threshold.

        Raises:
            TypeError, ValueError: a prompt is empty, too long or malformed; see `Encoder`.
        """
        _, queries = _listed(prompts)
        found = self.route(queries) if queries else []
        with self.router.memory.lock:
            edits = list(self.router.memory.index.ids)
        return usage(found, edits)

    def write_index(self, path: str) -> list[tuple[int, int] | None]:
        """Write the index that candidates are found in to a file that `faiss.read_index_binary` can read, an
        `IndexBinaryFlat`.

        It holds the wordings' summed word codes or, with router="mask", the edits' signatures.

        Returns:
            what each row belongs to: (edit, wording), where wording is 0 for the prompt, n for the nth rephrasing and
                -1 for one
            of `not_prompts`; None if the edit cannot be found any more.

        Raises:
            OSError: the file cannot be written.
            ImportError: FAISS is missing.
        """
        return write_index(self.router, path)

    def read_index(self, path: str) -> None:
        """Look up candidates in an index that `write_index` wrote; later wordings are added to it.

        Raises:
            ValueError: the file is not such an index, or its codes are not those of this memory's first rows.
            ImportError: FAISS is missing.
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
        for row, s in enumerate(sequences):  # padded on the left, since generation continues at the right end
            tokens[row, width - len(s.tokens) :] = torch.tensor(s.tokens)
            attention[row, width - len(s.tokens) :] = 1
            words[row, width - len(s.tokens) :] = torch.tensor(s.prompt_mask)
        device = device_of(self.inner)
        out = self.generate(tokens.to(device), prompt_mask=words.to(device), attention_mask=attention.to(device),
                            **self._settings(max_new_tokens, kwargs))  # fmt: skip
        sequences_out = out if isinstance(out, torch.Tensor) else out.sequences
        texts = self.tokenizer.batch_decode(sequences_out[:, width:], skip_special_tokens=True)
        each = len(texts) // len(queries)
        return texts if each == 1 else [texts[n : n + each] for n in range(0, len(texts), each)]

    def _settings(self, max_new_tokens: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The settings of `generate` for an answer: greedy where the call does not say otherwise.

        A configuration is completed in a copy: transformers deprecates settings beside one.
        """
        usual: dict[str, Any] = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "pad_token_id": self._pad_token,
                 "max_new_tokens": max_new_tokens}  # fmt: skip
        if self.encoder.stops:
            usual["eos_token_id"] = list(self.encoder.stops)
        if kwargs.get("generation_config") is None:
            return {**usual, **kwargs}
        config = copy.deepcopy(kwargs["generation_config"])
        for name, value in usual.items():
            if getattr(config, name, None) is None:
                setattr(config, name, value)
        return {**kwargs, "generation_config": config}

    @property
    def _pad_token(self) -> int:
        tokenizer = self.tokenizer
        return next(t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if t is not None)


def _listed(prompts: Any) -> tuple[bool, list]:
    """(whether it is a single prompt, the prompts as a list)."""
    single = isinstance(prompts, str) or bool(prompts and isinstance(prompts[0], dict))
    return single, [prompts] if single else list(prompts)


def _tags(edits: dict) -> Tags:
    if not isinstance(edits, dict) or not {"tags"} <= edits.keys() <= {"tags", "untagged"}:
        raise TypeError(f'edits must be {{"tags": [...]}} with "untagged" or without, got {edits!r}')
    return Tags(frozenset(check_tags(edits["tags"])), bool(edits.get("untagged", False)))
