"""Edited models in vLLM against our own Hugging Face path and against unedited vLLM: what runs before each release, within 15 minutes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.vllm.support import ENGINE, asked


def _tokens(batch):
    return [answer["tokens"] for answer in batch]


def test_forty_concurrent_requests_two_and_xargs(edited, engine):
    base = engine(edited.base, [asked(edited.prompts)])["batches"][0]
    text = edited.prompts[0]
    words = edited.model.encoder.prompt(text).tokens
    filler = edited.model.encoder.prompt("Please answer this in one short sentence. ").tokens
    spanned = filler + words
    inside = [len(filler), len(spanned)]
    found = engine(
        edited.export,
        [
            asked(edited.prompts),
            asked([text, edited.prompts[-1]]),  # two
            asked([text], extra={"memoir": "off"}),
            asked([text], extra={"memoir_edit": 3}),
            asked([text], extra={"memoir_tags": ["odd"]}),
            asked([text], extra={"memoir_tags": ["even"]}),
            asked([spanned], extra={"memoir_span": inside}),
            asked([text], extra={"memoir_span": [0, 10_000]}),
            asked([text], extra={"memoir_edit": "three"}),
            asked([text], extra={"memoire": 1}),
            asked([text], extra={"memoir_edit": 99}),
            asked([text]),
        ],
        beams=text,
        live={"store": str(edited.store), "prompt": text, "delete": 0},
    )
    forty, two, off, forced, odd, even, span, wrong_span, wrong_edit, unknown, absent, last = found["batches"]
    assert _tokens(forty) == edited.answers
    unrelated = [i for i, edit in enumerate(edited.routes) if edit is None]
    assert len(unrelated) >= 13 and len(edited.routes) - len(unrelated) >= 20
    for i in unrelated:
        assert forty[i] == base[i]  # tokens, and log-probabilities to the last bit
    assert all(forty[i]["tokens"] != base[i]["tokens"] for i in range(14))
    assert _tokens(two) == [edited.answers[0], edited.answers[-1]]
    assert _tokens(off) == [base[0]["tokens"]] and _tokens(odd) == [base[0]["tokens"]]
    assert _tokens(even) == [edited.answers[0]] == _tokens(last)
    assert forced[0]["tokens"] not in (edited.answers[0], base[0]["tokens"])
    assert _tokens(span) == [edited.answer(spanned, inside)]
    assert wrong_span is wrong_edit is unknown is absent is None
    messages = " ".join(found["errors"])
    for part in (
        "memoir_span must be",
        "memoir_edit must be an edit's id",
        "memoire is unknown",
        "memoir_edit 99 is not stored",
        "beam search is not served",
    ):
        assert part in messages
    counts, matched = found["counts"], len(edited.routes) - len(unrelated)
    live = found["live"]
    assert live["running"] == edited.answers[0] == live["restored"] and live["after"] == base[0]["tokens"]
    assert live["kept"] == [3, 2]  # pages before, and of these after
    assert live["refreshed"]["edits"] == 19 and live["again"]["edits"] == 20
    assert (live["refreshed"]["generation"], live["again"]["generation"]) == (1, 2)
    assert counts["matched"] == matched + 6 + 1 and counts["off"] == 1 and counts["refused"] == 5, (
        counts
    )  # the beam search too


def test_churn_requests_move_in_the_persistent_batch(edited, engine):
    long = edited.prompts[30] + " " + " ".join(edited.prompts[28:36])
    prompts = [
        edited.prompts[0],
        long,
        [28],
        edited.prompts[27],
        edited.prompts[1],
        edited.prompts[15],
        edited.prompts[2],
        long,
    ]
    found = engine(edited.export, [asked(prompts), asked(prompts[::-1])], max_num_seqs=3)["batches"]
    wanted = [edited.answer(prompt) for prompt in prompts]
    assert _tokens(found[0]) == wanted and _tokens(found[1]) == wanted[::-1]


def test_preempted_requests_keep_their_edit(edited, engine):
    prompts, tokens = edited.prompts[:3], 48
    found = engine(edited.export, [asked(prompts)], tokens=tokens, num_gpu_blocks_override=5, block_size=32, max_model_len=96,
                   max_num_batched_tokens=512, disable_log_stats=False)  # fmt: skip
    assert found["preemptions"] > 0
    assert _tokens(found["batches"][0]) == [edited.answer(prompt, tokens=tokens) for prompt in prompts]
    assert found["counts"]["matched"] == 3  # decided once each


REFUSED = {
    "prefix caching": {"enable_prefix_caching": True},
    "chunked prefill": {"enable_chunked_prefill": True},
    "long_prefill_token_threshold": {"long_prefill_token_threshold": 64},
    "prompt embeddings": {"enable_prompt_embeds": True},
    "worker_extension_cls": {"worker_extension_cls": "some.Worker"},
    "full CUDA graphs": {"enforce_eager": False, "compilation_config": {"cudagraph_mode": "FULL"}},
}


@pytest.mark.parametrize("named", REFUSED)
def test_settings_are_refused_before_anything_is_loaded(edited, named):
    from vllm.engine.arg_utils import EngineArgs

    with pytest.raises(ValueError, match=named):
        EngineArgs(model=str(edited.export), **{**ENGINE, **REFUSED[named]}).create_engine_config()


@pytest.mark.parametrize(("section", "named"), [(None, "no memoir section"), ({"depth": 26}, "depth is 26"), ({"seq": "1"}, "seq is '1'"),
                                                ({"target": "model.layers.99.mlp.down_proj"}, "target is")])  # fmt: skip
def test_a_damaged_section_is_refused_before_anything_is_loaded(edited, tmp_path, section, named):
    from vllm.engine.arg_utils import EngineArgs

    folder = tmp_path / "export"
    shutil.copytree(edited.export, folder, symlinks=True)
    config = json.loads((folder / "config.json").read_text())
    config["memoir"] = None if section is None else {**config["memoir"], **section}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"cannot be served with these settings: .*{named}.*xport the store again"):
        EngineArgs(model=str(folder), **ENGINE).create_engine_config()


def test_tokenizers_of_other_modes_are_refused(edited):
    from vllm.engine.arg_utils import EngineArgs

    from memoir_fast.serving.vllm.settings import refusals

    config = EngineArgs(model=str(edited.export), **ENGINE).create_engine_config()
    for mode in ("mistral", "deepseek_v32"):
        config.model_config.tokenizer_mode = mode
        assert [reason.partition(" (")[0] for reason in refusals(config)] == [f"tokenizer mode {mode!r}"]
    for mode in ("auto", "hf", "slow"):
        config.model_config.tokenizer_mode = mode
        assert not refusals(config)


def test_bare_settings_are_refused_with_the_flags_to_pass(edited):
    from vllm.engine.arg_utils import EngineArgs

    with pytest.raises(ValueError, match=r"(?s)--no-enable-prefix-caching.*--no-enable-chunked-prefill"):
        EngineArgs(model=str(edited.export), max_model_len=512).create_engine_config()


def test_without_the_plugin_vllm_refuses_the_folder(edited):
    program = (
        f"from vllm.engine.arg_utils import EngineArgs\nEngineArgs(model={str(edited.export)!r}).create_engine_config()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "VLLM_PLUGINS": "none"}, capture_output=True, text=True
    )
    assert done.returncode != 0 and "MemoirLlamaForCausalLM" in done.stderr and "not supported" in done.stderr


def test_another_vllm_is_refused_however_it_was_started(edited, monkeypatch):
    from vllm.engine.arg_utils import EngineArgs

    from memoir_fast.serving import serve

    monkeypatch.setattr(serve, "TESTED", "0.99.")
    with pytest.raises(ImportError, match=r"is installed; the plugin is made for 0\.99"):
        EngineArgs(model=str(edited.export), **ENGINE).create_engine_config()


def test_a_server_s_own_chat_template_is_seen(edited):
    """The renderer as a server uses it with `--chat-template`, and as `LLM.chat` does."""
    import asyncio

    from vllm.engine.arg_utils import EngineArgs
    from vllm.renderers import renderer_from_config
    from vllm.renderers.params import ChatParams

    from memoir_fast.serving.vllm.spans import KEY

    own = "{{ 'Be brief. ' }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ '\\n' }}{% endfor %}[assistant]"
    renderer = renderer_from_config(EngineArgs(model=str(edited.export), **ENGINE).create_engine_config())
    asked = [{"role": "system", "content": "Say hello."}, {"role": "user", "content": " Who leads Norvane Robotics? "}]
    for template in (own, None):
        params = ChatParams(chat_template=template, chat_template_kwargs={"tokenize": False})  # as all routes do
        rendered = [renderer.render_chat([asked], params), asyncio.run(renderer.render_chat_async([asked], params))]
        for _, (prompt,) in rendered:
            start, end = prompt[KEY]
            words = renderer.get_tokenizer().decode(prompt["prompt_token_ids"][start:end])
            assert words.strip() == "Who leads Norvane Robotics?" and "prompt_token_offsets" not in prompt
            assert prompt["prompt"].startswith("Be brief.") == (template == own)


def test_a_template_that_takes_long_with_our_placeholder_alone_is_stopped_by_vllm_s_limit(edited, monkeypatch):
    import asyncio
    import time

    from vllm.engine.arg_utils import EngineArgs
    from vllm.renderers import renderer_from_config
    from vllm.renderers.params import ChatParams

    slow = (
        "{% for m in messages %}{% if 'placeholder' in m['content'] %}{% for i in range(2000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"
        "{% endif %}{{ m['content'] }}{% endfor %}"
    )
    renderer = renderer_from_config(EngineArgs(model=str(edited.export), **ENGINE).create_engine_config())
    params = ChatParams(chat_template=slow, chat_template_kwargs={"tokenize": False})
    # The text holds the first of the placeholders, so the second is taken.
    asked = [{"role": "user", "content": "What is a quxwordzazplacequv?"}]
    monkeypatch.setenv("VLLM_CHAT_TEMPLATE_RENDER_TIMEOUT", "1")
    before = time.monotonic()
    with pytest.raises(TimeoutError, match="rendering timed out after 1"):
        asyncio.run(renderer.render_chat_async([asked], params))
    assert time.monotonic() - before < 4
