"""One vLLM engine in a process of its own: reads what to do as JSON from standard input, writes what came out to a file.

{"model": folder, "settings": {...LLM's...}, "batches": [[{"prompt": text or [ids], "extra": {...}, "lora": folder}, ...] or {"store": folder, "verb": "disable", "edit": id}, ...],
 "tokens": n, "live": {"store": ..., "delete": id, ...} or absent, "out": file}
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def answers(llm, batch: list[dict], tokens: int) -> list[dict]:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    prompts = [r["prompt"] if isinstance(r["prompt"], str) else {"prompt_token_ids": r["prompt"]} for r in batch]
    # Every request generates as much, so that an edited engine forms the same batches as an unedited one.
    params = [
        SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, logprobs=0, extra_args=r.get("extra"))
        for r in batch
    ]
    adapters = [LoRARequest("zero", 1, r["lora"]) if r.get("lora") else None for r in batch]
    found = llm.generate(prompts, params, use_tqdm=False, lora_request=adapters if any(adapters) else None)
    outputs = [f.outputs[0] for f in found]
    return [
        {
            "tokens": list(o.token_ids),
            "text": o.text,
            "logprobs": [p[t].logprob.hex() for p, t in zip(o.logprobs, o.token_ids, strict=True)],
        }
        for o in outputs
    ]


def live(llm, asked: dict, tokens: int) -> dict:
    """A request runs while its edit is deleted and the engine refreshed; the same question is then asked again."""
    from vllm import SamplingParams

    from memoir_fast.serving import vllm as serving
    from memoir_fast.store import Store

    engine, found = llm.llm_engine, {}
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    engine.add_request("running", asked["prompt"], params)
    for _ in range(3):
        engine.step()
    with Store(asked["store"], writer=True) as store:
        store.delete(asked["delete"])
    before = set(llm.collective_rpc("memoir_held")[0])
    found["refreshed"] = serving.refresh(llm)
    found["kept"] = [len(before), len(before & set(llm.collective_rpc("memoir_held")[0]))]
    done = None
    while engine.has_unfinished_requests():
        done = engine.step()
    found["running"] = list(done[0].outputs[0].token_ids)
    found["after"] = answers(llm, [{"prompt": asked["prompt"]}], tokens)[0]["tokens"]
    with Store(asked["store"], writer=True) as store:
        store.restore(asked["delete"])
    found["again"] = serving.refresh(llm)
    found["restored"] = answers(llm, [{"prompt": asked["prompt"]}], tokens)[0]["tokens"]
    return found


def changed(llm, asked: dict) -> dict:
    """The store is changed, and the engine refreshed."""
    from memoir_fast.serving import vllm as serving
    from memoir_fast.store import Store

    with Store(asked["store"], writer=True) as store:
        getattr(store, asked["verb"])(asked["edit"])
    return serving.refresh(llm)


def main() -> None:
    from vllm import LLM

    work = json.loads(sys.stdin.read())
    llm = LLM(work["model"], **work["settings"])
    found = {"batches": [], "errors": []}
    for batch in work["batches"]:
        try:
            found["batches"].append(
                changed(llm, batch) if isinstance(batch, dict) else answers(llm, batch, work["tokens"])
            )
        except ValueError as error:
            found["batches"].append(None)
            found["errors"].append(str(error))
    if work.get("beams"):
        from vllm.sampling_params import BeamSearchParams

        try:
            llm.beam_search([{"prompt": work["beams"]}], BeamSearchParams(beam_width=2, max_tokens=2))
        except ValueError as error:
            found["errors"].append(str(error))
    if work.get("live"):
        found["live"] = live(llm, work["live"], work["tokens"])
    counted = llm.get_metrics() if not work["settings"].get("disable_log_stats", True) else None
    for name, metric in (("preemptions", "vllm:num_preemptions"), ("hits", "vllm:prefix_cache_hits")):
        found[name] = None if counted is None else sum(m.value for m in counted if m.name == metric)
    if "memoir" in vars(llm.llm_engine.vllm_config.model_config.hf_config):
        from memoir_fast.serving import vllm as serving

        found["counts"] = serving.counts(llm)
    with open(work["out"], "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
