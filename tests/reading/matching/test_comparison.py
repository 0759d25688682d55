"""The extension's comparison of a query with stored prompts against numpy's, which is the specification."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast import MemoirModel, ops
from memoir_fast.ops import cpu
from memoir_fast.reading.matching.comparison import compare
from memoir_fast.reading.matching.judge import asks_more, contradicted, only_mentions
from memoir_fast.reading.matching.key_store import KeyStore
from memoir_fast.reading.matching.keys import Keys, Wordings
from memoir_fast.reading.matching.verify import FEATURES, compared, stacked
from memoir_fast.reading.probe import read_prompts
from tests.support.data import data_file, facts_file
from tests.support.operations import LEVELS
from tests.support.random_codes import random_code, random_words

COUNTED = (
    "numbers_missing numbers_added contrast same_types other_types same_text behind_asks window_asks key_asks names_present key_types "
    "query_types content_left content_left_back swap_count"
).split()
BEFORE = "The minutes of the last meeting are lost. We met at noon, and Anna took the notes. "


@pytest.fixture(params=LEVELS)
def level(request):
    """Runs a test at each SIMD level that this CPU has."""
    if not cpu.available():
        pytest.fail("the C++ extension is not built: the install is broken")
    if request.param not in cpu._C.levels():
        pytest.skip(f"this CPU has no {request.param}")
    before = cpu.level()
    cpu._C.set_level(request.param)
    yield request.param
    cpu._C.set_level(before)


@pytest.fixture(scope="module")
def real(smollm2):
    """Codes of the stored prompts and of the queries of some facts, as the real model reads them."""
    facts = [json.loads(line) for line in facts_file("zsre.jsonl").read_text("utf-8").splitlines()[:30]]
    prompts = [fact["prompt"] for fact in facts]
    asked = [
        before + fact[way]
        for before in ("", BEFORE)
        for fact in facts[:15]
        for way in ("rephrase_prompt", "locality_prompt")
    ]
    asked += [*prompts[:5], " ".join(prompts), f"{prompts[3]} {BEFORE * 25}"]
    return _codes(smollm2, prompts), _codes(smollm2, asked)


def _codes(smollm2, texts):
    with MemoirModel(*smollm2) as model:
        matcher = model.router.words.keys.matcher
        sequences = [model.encoder.prompt(text) for text in texts]
        return [code for _, code in read_prompts(model.model, model.router, matcher, sequences, 16)]


def check_same(query, table, rows):
    """Both engines find the same features, and the rules say the same."""
    with np.errstate(divide="ignore"):  # the logarithm of no words
        with ops.use_backend("reference"):
            wanted = compare(query, table, rows)
        found = compared(query, table, rows)
    with ops.use_backend("cpp"):
        mine = compare(query, table, rows)
    assert mine.features.shape == wanted.features.shape and mine.features.dtype == np.float32
    for number, name in enumerate(FEATURES):
        within = 0 if name in COUNTED else 1e-5
        assert np.allclose(mine.features[:, number], wanted.features[:, number], rtol=0, atol=within), name
    for name in ("contradicted", "excluded", "denied"):
        assert getattr(mine, name).dtype == getattr(wanted, name).dtype == bool
        assert np.array_equal(getattr(mine, name), getattr(wanted, name)), name
    return found


def test_real_prompts_have_the_same_features(real, level):
    stored, asked = real
    table = KeyStore(stored)
    assert max(map(len, asked)) > 320 and max(len(code.asks) for code in asked) > 20
    for query in asked:
        check_same(query, table, np.arange(len(stored)))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 25), st.integers(1, 5), st.integers(1, 12))
def test_random_words_have_the_same_features(seed, length, sentences, count):
    rng = np.random.default_rng(seed)
    words = random_words(rng, int(rng.integers(1, 16)))
    table = KeyStore([random_code(rng, words, 45)])  # more than are kept
    for _ in range(count):
        table.add(random_code(rng, words, int(rng.integers(0, 9))), int(rng.integers(0, 4)))
    query = random_code(rng, words, length, sentences)
    check_same(query, table, rng.integers(0, len(table), int(rng.integers(1, 20))))


def test_very_long_queries_and_many_prompts_have_the_same_features(level):
    rng = np.random.default_rng(1)
    words = random_words(rng, 60)
    table = KeyStore(random_code(rng, words, int(rng.integers(1, 40))) for _ in range(150))
    check_same(random_code(rng, words, 500, 40), table, rng.permutation(150))


def test_a_prompt_compares_alone_as_it_does_among_others_and_in_threads(real):
    stored, asked = real
    table, rows = KeyStore(stored), np.arange(len(stored))
    with ops.use_backend("cpp"):
        together = [compare(query, table, rows).features for query in asked]
        for row in rows[::7]:
            assert np.array_equal(compare(asked[0], table, rows[row : row + 1]).features[0], together[0][row])
        with ThreadPoolExecutor(8) as pool:
            again = pool.map(
                lambda number: compare(asked[number % len(asked)], table, rows).features, range(4 * len(asked))
            )
            for number, features in enumerate(again):
                assert np.array_equal(features, together[number % len(asked)])


def test_the_reference_backend_compares_with_numpy(real):
    stored, asked = real
    table, rows = KeyStore(stored), np.arange(len(stored))
    with ops.use_backend("reference"):
        assert not ops.extension_compares()
        assert np.array_equal(compare(asked[0], table, rows).features, stacked(compared(asked[0], table, rows)))
    with ops.use_backend("cpp"):
        assert ops.extension_compares()


def _decisions(keys, queries, backend):
    with ops.use_backend(backend):
        return [keys.best(query) for query in queries]


def test_the_rules_meet_all_cases():
    """The random words of the test above do what each rule is for, and what it is not for."""
    said = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        words = random_words(rng, int(rng.integers(3, 16)))
        table = KeyStore()
        for _ in range(20):
            table.add(random_code(rng, words, int(rng.integers(1, 6))), int(rng.integers(0, 4)))
        query = random_code(rng, words, int(rng.integers(1, 20)), int(rng.integers(1, 4)))
        found = check_same(query, table, np.arange(20))
        said.append([contradicted(found), only_mentions(found), asks_more(found)])
    for rule in np.concatenate(said, axis=1):
        assert 3 < rule.sum() < len(rule) - 3


@pytest.mark.long
def test_a_thousand_questions_read_the_same_of_a_thousand_edits(smollm2):
    facts = [json.loads(line) for line in data_file("zsre.jsonl").read_text("utf-8").splitlines()[:1000]]
    with MemoirModel(*smollm2) as model:
        matcher = model.router.words.keys.matcher

        def read(texts):
            sequences = [model.encoder.prompt(text) for text in texts]
            return read_prompts(model.model, model.router, matcher, sequences, 16)

        wordings = [Wordings([wording]) for wording, _ in read([fact["prompt"] for fact in facts])]
        queries = [
            code
            for way in ("rephrase_prompt", "locality_prompt")
            for _, code in read([fact[way] for fact in facts[:600]])
        ]
        keys = Keys(matcher, wordings.__getitem__)
        keys.added(range(len(wordings)), np.empty(0))
        ours, numpys = _decisions(keys, queries, "cpp"), _decisions(keys, queries, "reference")
    assert len(queries) >= 1000
    for mine, other in zip(ours, numpys, strict=True):
        assert (mine.edit, mine.wording, mine.kept_out) == (other.edit, other.wording, other.kept_out) or (
            abs(mine.score - other.score) < 1e-6 and other.score < 0.01
        )
        assert abs(mine.score - other.score) < 1e-5
        assert all((mine.score >= least) == (other.score >= least) for least in np.arange(0.3, 1, 0.05))
    assert 300 < sum(match.score > 0.5 for match in ours) < 900
