"""A million stored wordings to look up among: the project's own questions, about many invented and real subjects.

There is no file of a million real questions. These come from the generator of near misses (its relations in all their wordings, its
subjects), so that words are as unevenly frequent as in questions: "what" and "of" stand in most, a name in few. Every wording and some subjects
are read by the model; a stored wording is put together from the words of both. A word of a subject that was not read gets a random code: whitened
codes of unlike words are near random.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import fields, replace

import numpy as np

from benchmarks.library import CLASSES, PromptCode, read_prompts, relation_wordings, subjects

PLACE = "Qwox"  # stands for the subject while a wording is read
PROMPT_FIELDS = ("asks", "answer", "demands", "text")  # the others belong to words


class ManyWordings:
    """Draws facts and their wordings' codes.

    Args:
        model: with router="tokens".
        seed: of everything random; a wording's code does not depend on what was drawn before it.
        most: relations of each class, None for all; read: subjects of each class that the model reads.
    """

    def __init__(self, model, seed: int = 0, most: int | None = None, read: int = 40):
        self.model, self.matcher = model, model.router.words.keys.matcher
        self.rng = random.Random(seed)
        self.wordings = [
            (name, relation, text)
            for relation, texts in relation_wordings().items()
            for name, number in [relation.split(":")]
            if most is None or int(number) < most
            for text in texts
        ]
        self.known: dict[int, np.ndarray] = {}  # word -> the code that it had in a subject that was read
        self.frames = self._frames([text for *_, text in self.wordings])
        self.of_relation: dict[str, list[int]] = {}
        for number, (_, relation, _) in enumerate(self.wordings):
            self.of_relation.setdefault(relation, []).append(number)
        self._learn_subjects(read)
        self._names: dict[str, PromptCode] = {}

    def _read(self, texts: list[str]) -> list[PromptCode]:
        sequences = [self.model.encoder.prompt(text) for text in texts]
        return [code for _, code in read_prompts(self.model.model, self.model.router, self.matcher, sequences, 32)]

    def _frames(self, texts: list[str]) -> list[tuple[PromptCode, int]]:
        """Each wording's code, and where its subject stands."""
        place = self._unread(PLACE).word[0]
        codes = self._read([text.replace("{s}", PLACE) for text in texts])
        return [(code, int(np.flatnonzero(code.word == place)[0])) for code in codes]

    def _learn_subjects(self, read: int) -> None:
        names = [name for kind in CLASSES for name in subjects(kind, self.rng, read)]
        for code in self._read([f"I asked about {name}" for name in names]):
            self.known.update(zip(code.word.tolist()[3:], code.code[3:], strict=True))

    def _unread(self, text: str) -> PromptCode:
        """The words of a text behind another word, without activations."""
        tokens = self.matcher.reader.tokenizer(f"About {text}", add_special_tokens=False)["input_ids"]
        words = self.matcher.reader.words(tokens)
        code = self.matcher.prompts.code(words, np.ones((len(words), self.matcher.bits // 8), np.uint8))
        return _rows(code, slice(1, None))

    def subject(self, text: str) -> PromptCode:
        """The words of a subject."""
        if text not in self._names:
            code = self._unread(text)
            for row, word in enumerate(code.word.tolist()):
                if word not in self.known:
                    drawn = np.random.default_rng(word).integers(0, 1 << 63, code.code.shape[1], np.uint64)
                    self.known[word] = drawn * np.uint64(2) + np.uint64(word & 1)
                code.code[row] = self.known[word]
            self._names[text] = code
        return self._names[text]

    def facts(self, count: int) -> list[tuple[int, str]]:
        """(number of a wording, subject) of `count` different facts, in random order; relations with few subjects bring fewer."""
        relations = list(self.of_relation)
        each = count // len(relations) + 1
        while True:
            pools = {kind: subjects(kind, self.rng, each) for kind in CLASSES}
            found = [
                (self.rng.choice(self.of_relation[relation]), name)
                for relation in relations
                for name in dict.fromkeys(pools[relation.split(":")[0]])
            ]
            if len(found) >= count:
                self.rng.shuffle(found)
                return found[:count]
            each += each // 20 + 1

    def code(self, wording: int, subject: str) -> PromptCode:
        """The code of one wording of one fact."""
        frame, at = self.frames[wording]
        name = self.subject(subject)
        rows = {}
        for field in fields(PromptCode):
            if field.name not in PROMPT_FIELDS:
                own = getattr(frame, field.name)
                rows[field.name] = np.concatenate([own[:at], getattr(name, field.name), own[at + 1 :]])
        rows["sentence"] = np.zeros(len(rows["word"]), np.int16) + frame.sentence[at]
        if len(frame.asks) > 1:
            rows["sentence"] = np.concatenate(
                [frame.sentence[:at], np.full(len(name), frame.sentence[at]), frame.sentence[at + 1 :]]
            )
        text = wording << 32 | zlib.crc32(subject.encode())
        return replace(frame, **rows, text=text)

    def other(self, wording: int) -> int:
        """Another wording of the same relation, where there is one."""
        others = [n for n in self.of_relation[self.wordings[wording][1]] if n != wording]
        return self.rng.choice(others) if others else wording


def _rows(code: PromptCode, which: slice) -> PromptCode:
    return replace(
        code, **{f.name: getattr(code, f.name)[which] for f in fields(PromptCode) if f.name not in PROMPT_FIELDS}
    )
