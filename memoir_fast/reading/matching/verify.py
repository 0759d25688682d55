"""Does this query ask for that stored prompt? Features of pairs of prompt codes, and a small classifier on them.

All candidates of one query are compared at once. Words match by the same word, by spelling (typing errors, inflections),
by activations, or by a shared meaning; words that hold digits only match themselves. The query is read through its best
window (one sentence or two neighbours), so that a preamble or a document around the question does not count against it.
"""

from __future__ import annotations

import numpy as np

from .key_store import KeyStore
from .prompt_codes import PromptCode

MOST_QUERY_WORDS = 320

FEATURES = (
    "key_cover key_cover_lexical key_cover_code key_weakest key_weakest_lexical key_names key_names_weakest key_relation "
    "key_relation_lexical key_relation_code query_cover query_cover_lexical query_cover_code query_weakest query_names_weakest "
    "query_relation query_relation_code core_cover core_weakest core_names_weakest core_relation numbers_missing numbers_added contrast same_types "
    "other_types same_text order words_ratio behind_weight behind_asks window_share window_asks key_asks rare_missing "
    "rare_added typo_share key_words names_present key_weight core_share key_sense key_relation_sense query_relation_sense "
    "core_relation_sense key_left query_left left_sense left_sense_back left_code swap swap_both key_light query_light "
    "head_sense head_sense_back heads key_types query_types content_left content_left_back content_soft content_soft_back mean_left mean_relation "
    "swap_modifier swap_head swap_count"
).split()  # fmt: skip


def similarities(query: PromptCode, key: dict[str, np.ndarray], present: np.ndarray) -> tuple[np.ndarray, ...]:
    """How well each query word matches each key word, for C keys.

    Returns:
        five (C, n, m) float32 arrays in 0..1: by spelling (1: the same word), by activation code, by shared meaning, and all
        together; and (C, n, m) bool, the words exclude each other.
    """
    q = query
    both = present[:, None, :]
    exact = (q.word[None, :, None] == key["word"][:, None, :]) & both
    shared = sum(
        np.bitwise_count(q.spelling[None, :, None, i] & key["spelling"][:, None, :, i]).astype(np.float32)
        for i in range(q.spelling.shape[1])
    )
    ones = np.bitwise_count(q.spelling).sum(1).astype(np.float32)[None, :, None]
    key_ones = np.bitwise_count(key["spelling"]).sum(2).astype(np.float32)[:, None, :]
    dice = 2 * shared / np.maximum(ones + key_ones, 1)
    spelled = np.where(exact, 1.0, _spelling(q, key, dice, present)).astype(np.float32)
    numbers = (q.number[None, :, None] | key["number"][:, None, :]) & ~exact
    spelled[numbers] = 0.0
    bits = 64.0 * q.code.shape[1]
    distance = np.zeros(exact.shape, np.float32)
    for i in range(q.code.shape[1]):
        distance += np.bitwise_count(q.code[None, :, None, i] ^ key["code"][:, None, :, i])
    coded = np.where(q.coded[None, :, None] & key["coded"][:, None, :], np.clip(1 - 2 * distance / bits, 0, 1), 0.0)
    coded = np.where(numbers | ~both, 0.0, np.where(exact, np.maximum(coded, 0.9), coded)).astype(np.float32)
    meant = np.zeros(exact.shape, bool)
    for i in range(q.meaning.shape[1]):
        meant |= (q.meaning[None, :, None, i] & key["meaning"][:, None, :, i]) != 0
    meant = (meant | exact) & both
    excluding = (q.contrast[None, :, None] & key["contrast"][:, None, :]) != 0
    excluding &= ((q.member[None, :, None] & key["member"][:, None, :]) == 0) & ~exact & both
    meant &= ~excluding
    together = np.maximum(np.maximum(spelled, 0.75 * meant), np.minimum(1.3 * coded, 0.9))
    together = np.where(excluding, 0.0, together) * both
    alike = (
        np.einsum("nd,cmd->cnm", q.sense.astype(np.float32), key["sense"].astype(np.float32), optimize=True) / 127**2
    )
    alike = np.where(excluding, 0.0, alike)
    named = (q.name[None, :, None] | key["name"][:, None, :]) & ~exact
    sensed = np.where(exact, 1.0, np.where(named, 0.0, np.clip(alike, 0, 1))) * both
    return (
        spelled * both,
        coded,
        meant.astype(np.float32),
        together.astype(np.float32),
        excluding,
        sensed.astype(np.float32),
    )


def _spelling(q: PromptCode, key: dict[str, np.ndarray], dice: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Similarity of different words by their letters: swapped letters 0.95, one more or less 0.9, other likeness up to 0.7."""
    result = np.where(dice >= 0.45, np.minimum(dice * 0.8, 0.7), 0.0)
    where = np.nonzero(
        (dice >= 0.4) & present[:, None, :] & (q.length[None, :, None] >= 4) & (key["length"][:, None, :] >= 4)
    )
    if len(where[0]):
        c, i, j = where
        gap = np.abs(q.letters[i].astype(np.int16) - key["letters"][c, j]).sum(1)
        likely = np.where(gap == 0, 0.95, np.where((gap == 1) & (dice[where] >= 0.5), 0.9, 0.0))
        result[where] = np.maximum(result[where], likely)
    return result


def features(query: PromptCode, table: KeyStore, which: np.ndarray, tokens: int = MOST_QUERY_WORDS) -> np.ndarray:
    """(C, F) float32: the pairs of one query with the stored prompts `which` (C rows of the table); see FEATURES."""
    if len(query) == 0:
        return np.zeros((len(which), len(FEATURES)), np.float32)
    found = compared(query, table, which, tokens)
    return np.stack([np.asarray(found[name], np.float32) for name in FEATURES], 1)


def compared(
    query: PromptCode, table: KeyStore, which: np.ndarray, tokens: int = MOST_QUERY_WORDS
) -> dict[str, np.ndarray]:
    """The features by name, (C,) each, and what `only_mentions` needs beside them; the query has words."""
    query = query.last(tokens)
    key, present = table.take(which)
    spelled, coded, meant, together, excluding, sensed = similarities(query, key, present)
    weight = key["weight"] * present
    first, last, behind = best_windows(query, together, weight)
    position = np.arange(len(query))
    inside = (position >= first[:, None]) & (position < last[:, None])
    shown = inside[:, :, None]
    to_key = [(part * shown).max(1) for part in (together, spelled, coded)]
    to_query = [part.max(2) * inside for part in (together, spelled, coded)]
    found: dict[str, np.ndarray] = {}
    _key_side(found, key, present, weight, to_key, (meant * shown).max(1))
    _query_side(found, query, inside, to_query)
    strong = inside & (to_query[0] >= 0.7) & (query.weight > 0.05)
    start = np.where(strong.any(1), strong.argmax(1), first)
    stop = np.where(strong.any(1), len(query) - strong[:, ::-1].argmax(1), last)
    core = (position >= start[:, None]) & (position < stop[:, None])
    _core_side(found, query, core, inside, to_query)
    _sense_side(found, query, key, present, weight, core, inside, sensed, spelled, coded, meant)
    conflict = (excluding & shown).any(1) & (to_key[0] < 0.5)
    found["contrast"] = conflict.any(1)
    exact = to_key[1] >= 1
    found["numbers_missing"] = (key["number"] & present & ~exact).sum(1).clip(0, 2)
    found["numbers_added"] = (query.number & inside & (to_query[1] < 1)).sum(1).clip(0, 2)
    _window_side(found, query, table, which, first, last, behind, core, inside)
    found["order"] = _order(spelled * shown, present)
    found["same_text"] = table.prompts("text", which) == query.text
    found["words_ratio"] = np.log(core.sum(1) / np.maximum(present.sum(1), 1)).clip(-2, 2)
    found["key_words"] = np.log(present.sum(1))
    found["key_weight"] = np.log1p(weight.sum(1))
    return found


def best_windows(
    query: PromptCode, together: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of C keys the best run of one or two sentences of the query.

    Returns:
        (C,) first word, (C,) end, and (C,) number of the first sentence behind it. Coverage of the key counts, minus a
        little for a second sentence; the later window wins where two are nearly equal.
    """
    starts = np.flatnonzero(np.diff(query.sentence, prepend=-1))
    ends = np.append(starts[1:], len(query))
    best = np.maximum.reduceat(together, starts, axis=1)  # (C, S, m)
    total = np.maximum(weight.sum(1), 1e-6)[:, None]
    single = (best * weight[:, None, :]).sum(2) / total
    late = 0.02 * np.arange(len(starts)) / len(starts)
    scores, spans = [single + late], [(i, i + 1) for i in range(len(starts))]
    if len(starts) > 1:
        pairs = np.maximum(best[:, :-1], best[:, 1:])
        scores.append((pairs * weight[:, None, :]).sum(2) / total - 0.08 + late[1:])
        spans += [(i, i + 2) for i in range(len(starts) - 1)]
    chosen = np.concatenate(scores, 1).argmax(1)
    spans = np.array(spans)[chosen]
    return starts[spans[:, 0]], ends[spans[:, 1] - 1], spans[:, 1]


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


def _key_side(
    found: dict[str, np.ndarray],
    key: dict[str, np.ndarray],
    present: np.ndarray,
    weight: np.ndarray,
    to_key: list[np.ndarray],
    meant: np.ndarray,
) -> None:
    together, spelled, coded = to_key
    names = key["name"] & present
    relation = present & ~key["name"]
    found["key_cover"], found["key_cover_lexical"], found["key_cover_code"] = (_share(x, weight) for x in to_key)
    found["key_weakest"] = _weakest(together, weight, present)
    found["key_weakest_lexical"] = _weakest(spelled, weight, present)
    found["key_names"] = np.where(names.any(1), _share(spelled, weight * names), 1)
    found["key_names_weakest"] = np.where(names, spelled, 1).min(1)
    found["key_relation"] = _share(np.maximum(together, 0.75 * meant), weight * relation)
    found["key_relation_lexical"] = _share(spelled, weight * relation)
    found["key_relation_code"] = _share(coded, weight * relation)
    found["rare_missing"] = np.where(present, (1 - together) * weight, 0).max(1)
    found["typo_share"] = (present * weight * ((spelled >= 0.85) & (spelled < 1))).sum(1)
    found["names_present"] = names.sum(1).clip(0, 3)


def _query_side(
    found: dict[str, np.ndarray], query: PromptCode, inside: np.ndarray, to_query: list[np.ndarray]
) -> None:
    together, spelled, coded = to_query
    weight = query.weight[None] * inside
    names = query.name[None] & inside
    relation = inside & ~query.name[None]
    found["query_cover"], found["query_cover_lexical"], found["query_cover_code"] = (
        _share(x, weight) for x in to_query
    )
    found["query_weakest"] = _weakest(together, weight, inside)
    found["query_names_weakest"] = np.where(names, spelled, 1).min(1)
    found["query_relation"] = _share(together, weight * relation)
    found["query_relation_code"] = _share(coded, weight * relation)
    found["rare_added"] = np.where(inside, (1 - together) * weight, 0).max(1)


def _core_side(
    found: dict[str, np.ndarray], query: PromptCode, core: np.ndarray, inside: np.ndarray, to_query: list[np.ndarray]
) -> None:
    """The same inside the core: from the first to the last word of the window that matches well."""
    together, spelled, _ = to_query
    weight = query.weight[None] * core
    found["core_cover"] = _share(together, weight)
    found["core_weakest"] = _weakest(together, weight, core)
    found["core_names_weakest"] = np.where(query.name[None] & core, spelled, 1).min(1)
    found["core_relation"] = _share(together, weight * ~query.name[None])
    found["core_share"] = weight.sum(1) / np.maximum((query.weight[None] * inside).sum(1), 1e-6)


def _sense_side(
    found: dict[str, np.ndarray],
    query: PromptCode,
    key: dict[str, np.ndarray],
    present: np.ndarray,
    weight: np.ndarray,
    core: np.ndarray,
    inside: np.ndarray,
    sensed: np.ndarray,
    spelled: np.ndarray,
    coded: np.ndarray,
    meant: np.ndarray,
) -> None:
    """By the words' own meanings; and of what is left over on both sides when like words are taken away."""
    shown = inside[:, :, None]
    known = np.maximum(sensed, np.where(spelled >= 0.85, spelled, 0)) * shown
    to_key, to_query = known.max(1), known.max(2)
    relation = present & ~key["name"]
    found["key_sense"] = _share(to_key, weight)
    found["key_relation_sense"] = _share(to_key, weight * relation)
    asked = query.weight[None] * ~query.name[None]
    found["query_relation_sense"] = _share(to_query, asked * inside)
    found["core_relation_sense"] = _share(to_query, asked * core)
    same = (spelled >= 0.85) & shown
    key_left, query_left = present & ~same.any(1), inside & ~same.any(2)
    w_key, w_query = weight * key_left, query.weight[None] * query_left
    found["key_left"], found["query_left"] = np.log1p(w_key.sum(1)), np.log1p(w_query.sum(1))
    pairs = key_left[:, None, :] & query_left[:, :, None]
    best = np.maximum(sensed, 0.5 * meant) * pairs
    empty = 0.1
    found["left_sense"] = ((best.max(1) * w_key).sum(1) + empty) / (w_key.sum(1) + empty)
    found["left_sense_back"] = ((best.max(2) * w_query).sum(1) + empty) / (w_query.sum(1) + empty)
    found["left_code"] = (((coded * pairs).max(1) * w_key).sum(1) + empty) / (w_key.sum(1) + empty)
    _content_side(found, query, key, present, inside, same, best)
    _swaps(found, query, key, weight, pairs, same, best)
    key_head, query_head = present & key["head"], inside & query.head[None]
    heads = key_head[:, None, :] & query_head[:, :, None]
    found["head_sense"] = _mean(np.maximum(known, 0.6 * meant).max(1), key_head)
    found["head_sense_back"] = _mean(np.maximum(known, 0.6 * meant).max(2), query_head)
    found["heads"] = np.where(heads.any((1, 2)), (np.maximum(known, 0.6 * meant) * heads).max((1, 2)), 0.5)
    light = 0.25
    few = present & (key["weight"] < light)
    found["key_light"] = ((same.any(1) & few).sum(1) + 1) / (few.sum(1) + 1)
    few = core & (query.weight[None] < light)
    found["query_light"] = ((same.any(2) & few).sum(1) + 1) / (few.sum(1) + 1)


def _content_side(
    found: dict[str, np.ndarray],
    query: PromptCode,
    key: dict[str, np.ndarray],
    present: np.ndarray,
    inside: np.ndarray,
    same: np.ndarray,
    best: np.ndarray,
) -> None:
    """The words that say what is asked, all of one weight: how many are left over, how like those of the other side, and on average."""
    key_asks = present & key["content"] & ~key["name"]
    query_asks = inside & (query.content & ~query.name)[None]
    key_left, query_left = key_asks & ~same.any(1), query_asks & ~same.any(2)
    found["content_asked"] = key_asks.sum(1).clip(0, 4)
    found["content_left"], found["content_left_back"] = key_left.sum(1).clip(0, 4), query_left.sum(1).clip(0, 4)
    found["content_soft"] = (key_left * (1 - best.max(1))).sum(1).clip(0, 4)
    found["content_soft_back"] = (query_left * (1 - best.max(2))).sum(1).clip(0, 4)
    found["mean_left"] = _alike(query, key, key_left, query_left)
    found["mean_relation"] = _alike(query, key, key_asks, query_asks)


def _alike(query: PromptCode, key: dict[str, np.ndarray], of_key: np.ndarray, of_query: np.ndarray) -> np.ndarray:
    """Cosine of the mean meaning of some words of the key and some of the query; 0 where there are none."""
    one = np.einsum("cm,cmd->cd", of_key.astype(np.float32), key["sense"].astype(np.float32), optimize=True)
    other = of_query.astype(np.float32) @ query.sense.astype(np.float32)
    length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / np.maximum(length, 1e-3)


def _swaps(
    found: dict[str, np.ndarray],
    query: PromptCode,
    key: dict[str, np.ndarray],
    weight: np.ndarray,
    pairs: np.ndarray,
    same: np.ndarray,
    best: np.ndarray,
) -> None:
    """One word stands in the other's place: between like neighbours, and yet it is another word; before or behind a word of content it
    may well be another thing, however like the two are ("the lake lodge", "the river lodge")."""
    before = np.zeros(pairs.shape, bool)
    behind = np.zeros(pairs.shape, bool)
    before[:, 1:, 1:] = same[:, :-1, :-1]
    behind[:, :-1, :-1] = same[:, 1:, 1:]
    least = np.minimum(query.weight[None, :, None], weight[:, None, :])
    lost = least * (1 - best) * pairs
    found["swap"] = (lost * (before | behind)).max((1, 2))
    found["swap_both"] = (lost * (before & behind)).max((1, 2))
    both = pairs & (query.content[None, :, None] & key["content"][:, None, :])
    follows, leads = np.zeros(len(query), bool), np.zeros(len(query), bool)
    follows[1:], leads[:-1] = query.content[:-1], query.content[1:]
    other = np.maximum(least, 0.2) * both
    found["swap_modifier"] = (other * (behind & leads[None, :, None])).max((1, 2))
    found["swap_head"] = (other * (before & follows[None, :, None])).max((1, 2))
    found["swap_count"] = (both & before & behind).any(1).sum(1).clip(0, 3)


def _window_side(
    found: dict[str, np.ndarray],
    query: PromptCode,
    table: KeyStore,
    which: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    behind: np.ndarray,
    core: np.ndarray,
    inside: np.ndarray,
) -> None:
    position = np.arange(len(query))
    total = max(float(query.weight.sum()), 1e-6)
    after = query.weight[None] * (position >= last[:, None])
    found["behind_weight"] = np.log1p(after.sum(1))
    later = np.append(np.cumsum(query.asks[::-1])[::-1], 0)
    found["behind_asks"] = later[behind] > 0
    found["window_share"] = (query.weight[None] * inside).sum(1) / total
    sentence = query.sentence.astype(np.int64)
    asks: list[bool] = []
    kinds: list[int] = []
    for a, b in zip(first, last, strict=True):
        s, e = int(sentence[a]), int(sentence[b - 1]) + 1
        asks.append(bool(query.asks[s:e].any()))
        kinds.append(int(np.bitwise_or.reduce(query.answer[s:e])))
    answers, wanted = np.array(kinds), table.prompts("answer", which)
    found["window_asks"], found["key_asks"] = np.array(asks), table.prompts("asks", which)
    found["key_types"], found["query_types"] = np.bitwise_count(wanted), np.bitwise_count(answers.astype(np.uint16))
    found["same_types"] = (answers & wanted) != 0
    found["other_types"] = (answers != 0) & (wanted != 0) & ((answers & wanted) == 0)


def _order(spelled: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Share of the key's neighbouring words that stand behind each other in the query as well."""
    same = spelled >= 0.9
    if same.shape[1] < 2 or same.shape[2] < 2:
        return np.zeros(len(same), np.float32)
    runs = (same[:, :-1, :-1] & same[:, 1:, 1:]).any(1)
    return runs.sum(1) / np.maximum(present.sum(1) - 1, 1)
