"""The features of pairs of prompts written plainly: padded arrays (C, n, m), one feature at a time, the whole query beside each stored prompt.

What `memoir_fast/reading/matching` computes with fewer and smaller arrays has to agree with this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memoir_fast.reading.matching.classifier import Classifier
from memoir_fast.reading.matching.prompt_codes import PromptCode
from memoir_fast.reading.matching.verify import FEATURES
from tests.support.plain_likeness import Pairs, padded

MOST_QUERY_WORDS, MOST_KEY_WORDS = 320, 40


def probabilities(query: PromptCode, stored: Sequence[PromptCode], classifier: Classifier) -> np.ndarray:
    """(C,) how likely the query asks for each of the stored prompts."""
    found = compared(query, [code.last(MOST_KEY_WORDS) for code in stored])
    lines = np.stack([np.asarray(found[name], np.float32) for name in FEATURES], 1)
    missing = (found["content_asked"] > 0) & (found["content_soft"] >= 0.5 * found["content_asked"])
    mentions = missing & ~found["window_asks"] & (found["query_cover"] < 0.4)
    bare = (
        (found["content_asked"] == 0)
        & (found["names_present"] == 1)
        & (found["key_types"] == 0)
        & (found["key_asks"] == 0)
    )
    likely = classifier.probabilities(lines)
    excluding = 0.1 * likely / (0.1 * likely + 1 - likely)  # a tenth of the odds
    likely = np.where(np.asarray(found["contrast"]) > 0, excluding, likely)
    return np.where(mentions | (bare & (found["content_left_back"] > 0)), 0.0, likely)


def compared(query: PromptCode, stored: list[PromptCode]) -> dict[str, np.ndarray]:
    """The features by name, (C,) each."""
    pairs = Pairs.of(query.last(MOST_QUERY_WORDS), *padded(stored))
    found = _key_side(pairs) | _query_side(pairs) | _core_side(pairs) | _sense_side(pairs) | _window_side(pairs)
    return found | _prompt_side(pairs, found, stored)


def _share(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (values * weight).sum(1) / np.maximum(weight.sum(1), 1e-6)


def _mean(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The mean of the values in `which`; 0.5 where there are none."""
    return np.where(which.any(1), (values * which).sum(1) / np.maximum(which.sum(1), 1), 0.5)


def _weakest(values: np.ndarray, weight: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The least similarity of the words in `which`, each as far as its weight makes it important; 1 where there are none."""
    weight = weight * which
    most = np.maximum(weight.max(1, keepdims=True), 1e-6)
    return np.where(which, 1 - (1 - values) * weight / most, 1.0).min(1)


def _key_side(pairs: Pairs) -> dict[str, np.ndarray]:
    """What of the stored prompt the query has."""
    like, present, weight = pairs.like, pairs.present, pairs.weight
    together, spelled, coded, meant = map(pairs.to_key, (like.together, like.spelled, like.coded, like.meant))
    names, relation = pairs.key["name"] & present, present & ~pairs.key["name"]
    conflict = (like.excluding & pairs.inside[:, :, None]).any(1) & (together < 0.5)
    as_names = (like.spelled * (pairs.query.name[None] & pairs.inside)[:, :, None]).max(1)
    return {
        "key_cover": _share(together, weight),
        "key_cover_lexical": _share(spelled, weight),
        "key_cover_code": _share(coded, weight),
        "key_weakest": _weakest(together, weight, present),
        "key_weakest_lexical": _weakest(spelled, weight, present),
        "key_names": np.where(names.any(1), _share(spelled, weight * names), 1),
        "key_names_weakest": np.where(names, spelled, 1).min(1),
        "key_names_named": np.where(names.any(1), _share(as_names, weight * names), 1),
        "key_relation": _share(np.maximum(together, 0.75 * meant), weight * relation),
        "key_relation_lexical": _share(spelled, weight * relation),
        "key_relation_code": _share(coded, weight * relation),
        "rare_missing": np.where(present, (1 - together) * weight, 0).max(1),
        "typo_share": (present * weight * ((spelled >= 0.85) & (spelled < 1))).sum(1),
        "names_present": names.sum(1).clip(0, 3),
        "contrast": conflict.any(1),
        "numbers_missing": (pairs.key["number"] & present & ~(spelled >= 1)).sum(1).clip(0, 2),
    }


def _query_side(pairs: Pairs) -> dict[str, np.ndarray]:
    """What of the query's window the stored prompt has."""
    query, inside, like = pairs.query, pairs.inside, pairs.like
    together, spelled, coded = map(pairs.to_query, (like.together, like.spelled, like.coded))
    weight = query.weight[None] * inside
    names, relation = query.name[None] & inside, inside & ~query.name[None]
    return {
        "query_cover": _share(together, weight),
        "query_cover_lexical": _share(spelled, weight),
        "query_cover_code": _share(coded, weight),
        "query_weakest": _weakest(together, weight, inside),
        "query_names_weakest": np.where(names, spelled, 1).min(1),
        "query_relation": _share(together, weight * relation),
        "query_relation_code": _share(coded, weight * relation),
        "rare_added": np.where(inside, (1 - together) * weight, 0).max(1),
        "numbers_added": (query.number & inside & (spelled < 1)).sum(1).clip(0, 2),
    }


def _core_side(pairs: Pairs) -> dict[str, np.ndarray]:
    """The same inside the core: from the first to the last word of the window that matches well."""
    query, core = pairs.query, pairs.core
    together, spelled = map(pairs.to_query, (pairs.like.together, pairs.like.spelled))
    weight = query.weight[None] * core
    return {
        "core_cover": _share(together, weight),
        "core_weakest": _weakest(together, weight, core),
        "core_names_weakest": np.where(query.name[None] & core, spelled, 1).min(1),
        "core_relation": _share(together, weight * ~query.name[None]),
        "core_share": weight.sum(1) / np.maximum((query.weight[None] * pairs.inside).sum(1), 1e-6),
    }


def _sense_side(pairs: Pairs) -> dict[str, np.ndarray]:
    """By the words' own meanings; and of what is left over on both sides when like words are taken away."""
    query, key, present, inside, core, like = (
        pairs.query,
        pairs.key,
        pairs.present,
        pairs.inside,
        pairs.core,
        pairs.like,
    )
    weight, shown = pairs.weight, inside[:, :, None]
    known = np.maximum(like.sensed, np.where(like.spelled >= 0.85, like.spelled, 0)) * shown
    to_key, to_query = known.max(1), known.max(2)
    asked = query.weight[None] * ~query.name[None]
    same = (like.spelled >= 0.85) & shown
    key_left, query_left = present & ~same.any(1), inside & ~same.any(2)
    w_key, w_query = weight * key_left, query.weight[None] * query_left
    left = key_left[:, None, :] & query_left[:, :, None]
    best = np.maximum(like.sensed, 0.5 * like.meant) * left
    key_head, query_head = present & key["head"], inside & query.head[None]
    heads, alike = key_head[:, None, :] & query_head[:, :, None], np.maximum(known, 0.6 * like.meant)
    light, empty = 0.25, 0.1
    few_key, few_query = present & (key["weight"] < light), core & (query.weight[None] < light)
    return {
        "key_sense": _share(to_key, weight),
        "key_relation_sense": _share(to_key, weight * (present & ~key["name"])),
        "query_relation_sense": _share(to_query, asked * inside),
        "core_relation_sense": _share(to_query, asked * core),
        "key_left": np.log1p(w_key.sum(1)),
        "query_left": np.log1p(w_query.sum(1)),
        "left_sense": ((best.max(1) * w_key).sum(1) + empty) / (w_key.sum(1) + empty),
        "left_sense_back": ((best.max(2) * w_query).sum(1) + empty) / (w_query.sum(1) + empty),
        "left_code": (((like.coded * left).max(1) * w_key).sum(1) + empty) / (w_key.sum(1) + empty),
        "head_sense": _mean(alike.max(1), key_head),
        "head_sense_back": _mean(alike.max(2), query_head),
        "heads": np.where(heads.any((1, 2)), (alike * heads).max((1, 2)), 0.5),
        "key_light": ((same.any(1) & few_key).sum(1) + 1) / (few_key.sum(1) + 1),
        "query_light": ((same.any(2) & few_query).sum(1) + 1) / (few_query.sum(1) + 1),
        **_content_side(pairs, same, best),
        **_swaps(pairs, left, same, best),
    }


def _content_side(pairs: Pairs, same: np.ndarray, best: np.ndarray) -> dict[str, np.ndarray]:
    """The words that say what is asked, all of one weight: how many are left over, how like those of the other side, and on average."""
    query, key = pairs.query, pairs.key
    key_asks = pairs.present & key["content"] & ~key["name"]
    query_asks = pairs.inside & (query.content & ~query.name)[None]
    key_left, query_left = key_asks & ~same.any(1), query_asks & ~same.any(2)
    return {
        "content_asked": key_asks.sum(1).clip(0, 4),
        "content_left": key_left.sum(1).clip(0, 4),
        "content_left_back": query_left.sum(1).clip(0, 4),
        "content_soft": (key_left * (1 - best.max(1))).sum(1).clip(0, 4),
        "content_soft_back": (query_left * (1 - best.max(2))).sum(1).clip(0, 4),
        "mean_left": _alike(query, key, key_left, query_left),
        "mean_relation": _alike(query, key, key_asks, query_asks),
    }


def _alike(query: PromptCode, key: dict[str, np.ndarray], of_key: np.ndarray, of_query: np.ndarray) -> np.ndarray:
    """Cosine of the mean meaning of some words of the key and some of the query; 0 where there are none."""
    one = np.einsum("cm,cmd->cd", of_key.astype(np.float32), key["sense"].astype(np.float32), optimize=True)
    other = of_query.astype(np.float32) @ query.sense.astype(np.float32)
    length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / np.maximum(length, 1e-3)


def _swaps(pairs: Pairs, left: np.ndarray, same: np.ndarray, best: np.ndarray) -> dict[str, np.ndarray]:
    """One word stands in the other's place: between like neighbours, and yet it is another word; before or behind a word of content it
    may well be another thing, however like the two are ("the lake lodge", "the river lodge")."""
    query, key = pairs.query, pairs.key
    before, behind = np.zeros(left.shape, bool), np.zeros(left.shape, bool)
    before[:, 1:, 1:] = same[:, :-1, :-1]
    behind[:, :-1, :-1] = same[:, 1:, 1:]
    least = np.minimum(query.weight[None, :, None], pairs.weight[:, None, :])
    lost = least * (1 - best) * left
    both = left & (query.content[None, :, None] & key["content"][:, None, :])
    follows, leads = np.zeros(len(query), bool), np.zeros(len(query), bool)
    follows[1:], leads[:-1] = query.content[:-1], query.content[1:]
    other = np.maximum(least, 0.2) * both
    return {
        "swap": (lost * (before | behind)).max((1, 2)),
        "swap_both": (lost * (before & behind)).max((1, 2)),
        "swap_modifier": (other * (behind & leads[None, :, None])).max((1, 2)),
        "swap_head": (other * (before & follows[None, :, None])).max((1, 2)),
        "swap_count": (both & before & behind).any(1).sum(1).clip(0, 3),
    }


def _window_side(pairs: Pairs) -> dict[str, np.ndarray]:
    """Where the window stands in the query, and what kind of answer it asks for."""
    query = pairs.query
    after = query.weight[None] * (np.arange(len(query)) >= pairs.last[:, None])
    later = np.append(np.cumsum(query.asks[::-1])[::-1], 0)
    sentence = query.sentence.astype(np.int64)
    asks: list[bool] = []
    kinds: list[int] = []
    for a, b in zip(pairs.first, pairs.last, strict=True):
        s, e = int(sentence[a]), int(sentence[b - 1]) + 1
        asks.append(bool(query.asks[s:e].any()))
        kinds.append(int(np.bitwise_or.reduce(query.answer[s:e])))
    return {
        "behind_weight": np.log1p(after.sum(1)),
        "behind_asks": later[pairs.behind] > 0,
        "window_share": (query.weight[None] * pairs.inside).sum(1) / max(float(query.weight.sum()), 1e-6),
        "window_asks": np.array(asks),
        "window_types": np.array(kinds),
        "order": _order(pairs.like.spelled * pairs.inside[:, :, None], pairs.present),
        "words_ratio": np.log(pairs.core.sum(1) / np.maximum(pairs.present.sum(1), 1)).clip(-2, 2),
        "key_words": np.log(pairs.present.sum(1)),
        "key_weight": np.log1p(pairs.weight.sum(1)),
    }


def _prompt_side(pairs: Pairs, found: dict[str, np.ndarray], stored: list[PromptCode]) -> dict[str, np.ndarray]:
    """What holds for the stored prompts as wholes."""
    answers = found["window_types"]
    wanted = np.array([np.bitwise_or.reduce(code.answer) for code in stored], np.uint16)
    return {
        "key_asks": np.array([code.asks.any() for code in stored]),
        "key_types": np.bitwise_count(wanted),
        "query_types": np.bitwise_count(answers.astype(np.uint16)),
        "same_types": (answers & wanted) != 0,
        "other_types": (answers != 0) & (wanted != 0) & ((answers & wanted) == 0),
        "same_text": np.array([code.text for code in stored]) == pairs.query.text,
    }


def _order(spelled: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Share of the key's neighbouring words that stand behind each other in the query as well."""
    same = spelled >= 0.9
    if same.shape[1] < 2 or same.shape[2] < 2:
        return np.zeros(len(same), np.float32)
    runs = (same[:, :-1, :-1] & same[:, 1:, 1:]).any(1)
    return runs.sum(1) / np.maximum(present.sum(1) - 1, 1)
