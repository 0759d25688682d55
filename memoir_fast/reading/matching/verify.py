"""Second stage of a look-up: features that tell whether a query asks for a stored prompt, for the classifier.

All candidates of one query are compared at once. Words match if they are the same, by spelling (typing errors,
inflections), by activations, or by a shared meaning; words with digits match only themselves. Only the query's best
window counts (one sentence, or two adjacent ones), so a preamble or a document around the question does no harm.

A look-up delays the first token. So the arrays have the candidates along their last axis, and what belongs together is
computed in one call; numpy then takes a microsecond or two per feature.
"""

from __future__ import annotations

import numpy as np

from .key_store import KeyStore
from .likeness import CODED, MEANT, SENSED, SPELLED, TOGETHER
from .pairs import Pairs
from .prompt_codes import PromptCode
from .senses import product

FEATURES = (
    "key_cover key_cover_lexical key_cover_code key_weakest key_weakest_lexical key_names key_names_weakest key_relation "
    "key_relation_lexical key_relation_code query_cover query_cover_lexical query_cover_code query_weakest query_names_weakest "
    "query_relation query_relation_code core_cover core_weakest core_names_weakest core_relation numbers_missing numbers_added contrast same_types "
    "other_types same_text order words_ratio behind_weight behind_asks window_share window_asks key_asks rare_missing "
    "rare_added typo_share key_words names_present key_weight core_share key_sense key_relation_sense query_relation_sense "
    "core_relation_sense key_left query_left left_sense left_sense_back left_code swap swap_both key_light query_light "
    "head_sense head_sense_back heads key_types query_types content_left content_left_back content_soft content_soft_back mean_left mean_relation "
    "swap_modifier swap_head swap_count key_names_named"
).split()  # fmt: skip

Found = dict[str, np.ndarray]
_sum, _max, _min, _any = np.add.reduce, np.maximum.reduce, np.minimum.reduce, np.logical_or.reduce


def features(query: PromptCode, table: KeyStore, which: np.ndarray) -> np.ndarray:
    """(C, F) float32: the features (FEATURES) of a query's pairs with the stored prompts `which` (C,), rows of the
    table."""
    if len(query) == 0:
        return np.zeros((len(which), len(FEATURES)), np.float32)
    return stacked(compared(query, table, which))


def compared(query: PromptCode, table: KeyStore, which: np.ndarray) -> Found:
    """The features by name, (C,) each, and what `judge.py` needs besides; the query must have words."""
    pairs = Pairs.of(query, table.take(which))
    found = _key_side(pairs) | _query_side(pairs) | _core_side(pairs) | _sense_side(pairs) | _window_side(pairs)
    return found | _prompt_side(pairs, found, table, which)


def stacked(found: Found) -> np.ndarray:
    """(C, F) float32: the features in the order of FEATURES."""
    lines = np.empty((len(FEATURES), len(found["key_cover"])), np.float32)
    for line, name in zip(lines, FEATURES, strict=True):
        line[:] = found[name]
    return lines.T


def _shares(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted means over the words: values (..., words, C) with weight (words, C) to (..., C); 0 if all weights
    are."""
    return _sum(values * weight, axis=-2) / np.maximum(_sum(weight, axis=0), 1e-6)


def _mean(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The mean of the values where `which` is True; 0.5 if it is nowhere."""
    number = _sum(which, axis=0, dtype=np.float32)
    return np.where(number > 0, _sum(values * which, axis=0) / np.maximum(number, 1), 0.5)


def _weakest(values: np.ndarray, weight: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The smallest similarity of the words where `which` is True, 1 if it is nowhere. The lighter a word, the less it
    lowers the result. weight: 0 where `which` is False."""
    share = weight / np.maximum(_max(weight, axis=0), 1e-6)
    return _min(np.where(which, 1 - (1 - values) * share, 1), axis=-2)


def _least(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The smallest of the values where `which` is True; 1 if it is nowhere."""
    return _min(np.where(which, values, 1), axis=0)


def _key_side(pairs: Pairs) -> Found:
    """How much of the stored prompt the query's window has."""
    present, weight, names, best = pairs.stored.present, pairs.weight, pairs.named, pairs.to_key
    together, spelled, relation = best[TOGETHER], best[SPELLED], weight * ~names
    cover, alike = _shares(best[: CODED + 1], weight), _shares(best[: CODED + 1], relation)
    weakest = _weakest(best[: SPELLED + 1], weight, present)
    named = _sum(names, axis=0, dtype=np.float32)
    as_names = _max(pairs.like[SPELLED] * pairs.query_named[:, None], axis=0)
    conflict = _any(pairs.excluding, axis=0) & (together < 0.5) if pairs.excluding.any() else np.zeros((1, len(named)))
    return {
        "key_cover": cover[TOGETHER],
        "key_cover_lexical": cover[SPELLED],
        "key_cover_code": cover[CODED],
        "key_weakest": weakest[TOGETHER],
        "key_weakest_lexical": weakest[SPELLED],
        "key_names": np.where(named > 0, _shares(spelled, weight * names), 1),
        "key_names_weakest": _least(spelled, names),
        "key_names_named": np.where(named > 0, _shares(as_names, weight * names), 1),
        "key_relation": _shares(np.maximum(together, 0.75 * best[MEANT]), relation),
        "key_relation_lexical": alike[SPELLED],
        "key_relation_code": alike[CODED],
        "rare_missing": _max((1 - together) * weight, axis=0),
        "typo_share": _sum(weight * ((spelled >= 0.85) & (spelled < 1)), axis=0),
        "names_present": np.minimum(named, 3),
        "contrast": _any(conflict, axis=0),
        "numbers_missing": np.minimum(_sum(pairs.stored.of_words("number") & present & (spelled < 1), axis=0), 2),
    }


def _query_side(pairs: Pairs) -> Found:
    """How much of the query's window the stored prompt has."""
    inside, weight, names, best = pairs.inside, pairs.query_weight, pairs.query_named, pairs.to_query
    cover, alike = _shares(best[: CODED + 1], weight), _shares(best[: CODED + 1], weight * ~names)
    spelled = best[SPELLED]
    return {
        "query_cover": cover[TOGETHER],
        "query_cover_lexical": cover[SPELLED],
        "query_cover_code": cover[CODED],
        "query_weakest": _weakest(best[TOGETHER], weight, inside),
        "query_names_weakest": _least(spelled, names),
        "query_relation": alike[TOGETHER],
        "query_relation_code": alike[CODED],
        "rare_added": _max((1 - best[TOGETHER]) * weight, axis=0),
        "numbers_added": np.minimum(_sum(pairs.query.number[pairs.at] & inside & (spelled < 1), axis=0), 2),
    }


def _core_side(pairs: Pairs) -> Found:
    """The same for the core: the window from its first to its last word that matches well."""
    core, together = pairs.core, pairs.to_query[TOGETHER]
    weight = pairs.query_weight * core
    return {
        "core_cover": _shares(together, weight),
        "core_weakest": _weakest(together, weight, core),
        "core_names_weakest": _least(pairs.to_query[SPELLED], pairs.query_named & core),
        "core_relation": _shares(together, weight * ~pairs.query_named),
        "core_share": _sum(weight, axis=0) / np.maximum(_sum(pairs.query_weight, axis=0), 1e-6),
    }


def _sense_side(pairs: Pairs) -> Found:
    """Similarity by the words' own meanings, and of the words left on both sides when equal ones are removed."""
    own, present, inside, core, like = pairs.stored.own, pairs.stored.present, pairs.inside, pairs.core, pairs.like
    weight, shown = pairs.weight, pairs.query_weight
    same = like[SPELLED] >= 0.85
    known = np.maximum(like[SENSED], np.where(same, like[SPELLED], 0))
    to_key, to_query = _max(known, axis=0), _max(known, axis=1)
    key_same, query_same = pairs.to_key[SPELLED] >= 0.85, pairs.to_query[SPELLED] >= 0.85
    key_left, query_left = present & ~key_same, inside & ~query_same
    w_key, w_query, asked = weight * key_left, shown * query_left, shown * ~pairs.query_named
    key_weight, query_weight = _sum(w_key, axis=0), _sum(w_query, axis=0)
    left = key_left & query_left[:, None]
    best = np.maximum(like[SENSED], 0.5 * like[MEANT]) * left
    best_key, best_query = _max(best, axis=0), _max(best, axis=1)
    key_head, query_head = present & own["head"], inside & pairs.query.head[pairs.at]
    alike = np.maximum(known, 0.6 * like[MEANT])
    heads = _max(alike * (key_head & query_head[:, None]), axis=(0, 1))
    light, empty = 0.25, 0.1
    few_key, few_query = present & (own["weight"] < light), core & (shown < light)
    return {
        "key_sense": _shares(to_key, weight),
        "key_relation_sense": _shares(to_key, weight * ~pairs.named),
        "query_relation_sense": _shares(to_query, asked),
        "core_relation_sense": _shares(to_query, asked * core),
        "key_left": np.log1p(key_weight),
        "query_left": np.log1p(query_weight),
        "left_sense": (_sum(best_key * w_key, axis=0) + empty) / (key_weight + empty),
        "left_sense_back": (_sum(best_query * w_query, axis=0) + empty) / (query_weight + empty),
        "left_code": (_sum(_max(like[CODED] * left, axis=0) * w_key, axis=0) + empty) / (key_weight + empty),
        "head_sense": _mean(np.maximum(to_key, 0.6 * pairs.meant_anywhere), key_head),
        "head_sense_back": _mean(_max(alike, axis=1), query_head),
        "heads": np.where(_any(key_head, axis=0) & _any(query_head, axis=0), heads, 0.5),
        "key_light": (_sum(key_same & few_key, axis=0) + 1) / (_sum(few_key, axis=0) + 1),
        "query_light": (_sum(query_same & few_query, axis=0) + 1) / (_sum(few_query, axis=0) + 1),
        **_content_side(pairs, key_left, query_left, best_key, best_query),
        **_swaps(pairs, left, same, best),
    }


def _content_side(
    pairs: Pairs, key_left: np.ndarray, query_left: np.ndarray, best_key: np.ndarray, best_query: np.ndarray
) -> Found:
    """The words that say what is asked, all with the same weight: how many have no equal on the other side, and how
    similar they are."""
    query = pairs.query
    key_asks = pairs.stored.of_words("content") & pairs.stored.present & ~pairs.named
    query_asks = (query.content & ~query.name)[pairs.at] & pairs.inside
    of_key, of_query = key_asks & key_left, query_asks & query_left
    left, asking = _alike(pairs, np.stack([of_key, key_asks]), np.stack([of_query, query_asks]))
    return {
        "content_asked": np.minimum(_sum(key_asks, axis=0), 4),
        "content_left": np.minimum(_sum(of_key, axis=0), 4),
        "content_left_back": np.minimum(_sum(of_query, axis=0), 4),
        "content_soft": np.minimum(_sum(of_key * (1 - best_key), axis=0), 4),
        "content_soft_back": np.minimum(_sum(of_query * (1 - best_query), axis=0), 4),
        "mean_left": left,
        "mean_relation": asking,
    }


def _alike(pairs: Pairs, of_key: np.ndarray, of_query: np.ndarray) -> np.ndarray:
    """(2, C): the cosine of the mean vectors of some stored words (2, m, C) and some query words (2, w, C); 0 without
    words."""
    stored = pairs.stored
    one = _summed(of_key, stored.line, stored.shared["sense"])
    other = _summed(of_query, pairs.at, pairs.query.sense)
    squares = _sum(np.stack([one * other, one * one, other * other]), axis=3)
    return squares[0] / np.maximum(np.sqrt(squares[1]) * np.sqrt(squares[2]), 1e-3)


def _summed(which: np.ndarray, line: np.ndarray, sense: np.ndarray) -> np.ndarray:
    """(2, C, D) float32: the sums of the vectors (U, D) of some words (2, m, C), whose places among the U `line`, (m, C)
    or (m, 1), gives."""
    kinds, words, prompts = np.nonzero(which)
    count, width = which.shape[2], len(sense)
    places = (kinds * count + prompts) * width + line[words, prompts if line.shape[1] > 1 else 0]
    often = np.bincount(places, minlength=2 * count * width).reshape(2 * count, width)
    return product(often, sense).reshape(2, count, -1)


def _swaps(pairs: Pairs, left: np.ndarray, same: np.ndarray, best: np.ndarray) -> Found:
    """Features of swaps, where different words stand between the same neighbours. Before or after a content word, they
    may well mean different things, however similar they are ("the lake lodge", "the river lodge")."""
    query, content = pairs.query, pairs.query.content
    before, behind = np.zeros(left.shape, bool), np.zeros(left.shape, bool)
    before[1:, 1:] = same[:-1, :-1]
    behind[:-1, :-1] = same[1:, 1:]
    least = np.minimum(query.weight[pairs.at][:, None], pairs.weight)
    lost = least * (1 - best) * left
    both = left & (content[pairs.at][:, None] & pairs.stored.of_words("content"))
    follows, leads = np.zeros(len(query), bool), np.zeros(len(query), bool)
    follows[1:], leads[:-1] = content[:-1], content[1:]
    other, between = np.maximum(least, 0.2) * both, before & behind
    return {
        "swap": _max(lost * (before | behind), axis=(0, 1)),
        "swap_both": _max(lost * between, axis=(0, 1)),
        "swap_modifier": _max(other * (behind & leads[pairs.at][:, None]), axis=(0, 1)),
        "swap_head": _max(other * (before & follows[pairs.at][:, None]), axis=(0, 1)),
        "swap_count": np.minimum(_sum(_any(both & between, axis=0), axis=0), 3),
    }


def _window_side(pairs: Pairs) -> Found:
    """Where in the query the window is, and which kinds of answer it asks for."""
    query, behind = pairs.query, pairs.behind
    before = query.sentence[pairs.first]  # the window's first sentence; there is at most one more
    after = np.append(np.cumsum(query.weight[::-1])[::-1], 0)
    later = np.append(np.cumsum(query.asks[::-1])[::-1], 0)
    words = _sum(pairs.stored.present, axis=0)
    same = pairs.like[SPELLED] >= 0.9
    runs = _sum(_any(same[:-1, :-1] & same[1:, 1:], axis=0), axis=0)
    return {
        "behind_weight": np.log1p(after[pairs.last]),
        "behind_asks": later[behind] > 0,
        "window_share": _sum(pairs.query_weight, axis=0) / max(float(query.weight.sum()), 1e-6),
        "window_asks": query.asks[before] | query.asks[behind - 1],
        "window_types": query.answer[before] | query.answer[behind - 1],
        "core_demands": _demanded(pairs),
        "order": runs / np.maximum(words - 1, 1),
        "words_ratio": np.minimum(np.maximum(np.log(_sum(pairs.core, axis=0) / np.maximum(words, 1)), -2), 2),
        "key_words": np.log(words),
        "key_weight": np.log1p(_sum(pairs.weight, axis=0)),
    }


def _demanded(pairs: Pairs) -> np.ndarray:
    """(C,): the kinds of answer that the sentences of each core demand. Other sentences do not ask about this
    subject."""
    demands = pairs.query.demands[pairs.query.sentence][pairs.at]
    return np.bitwise_or.reduce(np.where(pairs.core, demands, 0), axis=0)


def _prompt_side(pairs: Pairs, found: Found, table: KeyStore, which: np.ndarray) -> Found:
    """Features of the stored prompts as a whole."""
    answers, wanted = found["window_types"], table.prompts("answer", which)
    return {
        "key_asks": table.prompts("asks", which),
        "key_types": np.bitwise_count(wanted),
        "query_types": np.bitwise_count(answers),
        "same_types": (answers & wanted) != 0,
        "other_types": (answers != 0) & (wanted != 0) & ((answers & wanted) == 0),
        "same_text": table.prompts("text", which) == pairs.query.text,
        "key_offers": table.prompts("offers", which),
    }
