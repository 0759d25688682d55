"""Sections on time and memory: kernels, editing, reading, serving, and what grows with the number of edits."""

from __future__ import annotations

from pathlib import Path

from benchmarks import rows
from benchmarks.results_page.text import number, optimised, source, source_line, table
from benchmarks.rows import Row

EDITORS = ("published", "exact", "default", "fast", "chat", "chat_fast")


def sections(results: Path) -> list[str]:
    parts: list[str] = []
    for section in (
        operations,
        kernels,
        editing,
        batched,
        long_edits,
        dropin,
        reading,
        lookup,
        scaling,
        serving,
        serving_load,
        serving_prefix,
        checkouts,
    ):
        parts += section(results)
    return parts


def last(benchmark: str, results: Path) -> Row | None:
    """The latest run that was not of a part alone."""
    found = [row for row in rows.read(benchmark, results) if "partial" not in row.settings]
    return found[-1] if found else None


def operations(results: Path) -> list[str]:
    run = last("ops", results)
    if run is None:
        return []
    lines = [[f"`{r['op']}`", r["size"], r["dtype"], str(r["N"]), f"{r['ratio']:.2f}x", _milliseconds(r["ours_us"]),
              _milliseconds(r["torch_us"]), _milliseconds(r["floor_us"])] for r in run.result["rows"]]  # fmt: skip
    return [
        "## Kernels", "", *source_line(run),
        "How many times faster the library is than the fastest sequence of plain torch operations with the same result, on the same machine, by medians in "
        "one run (`python -m benchmarks.speed.ops`). Below 1 it is slower. Floor: the time of a plain read of the bytes, or of the matrix product alone.", "",
        *table(["operation", "size", "dtype", "rows", "faster", "ours, ms", "torch, ms", "floor, ms"], lines),
        "![operations against torch](images/ops.svg)", "",
        "Multiplying one row with LLaMA-3's memory takes about as long as a plain read of the bytes. At SmolLM2's size, if more than four rows share "
        "a mask, torch's own product is used, and packing the rows costs as much as it saves. bfloat16 inputs gain little on a CPU without hardware "
        "support for them.", "",
    ]  # fmt: skip


def _milliseconds(microseconds: float) -> str:
    return f"{microseconds / 1e3:.4g}"


def kernels(results: Path) -> list[str]:
    parts: list[str] = []
    if run := last("threads", results):
        lines = [[r["threads"], _milliseconds(r["torch_us"]), _milliseconds(r["ours_us"])] for r in run.result["rows"]]
        parts += ["### Whose threads", "", *source_line(run), "One step makes a torch product and one of the library's, with the threads of torch's own "
                  "OpenMP runtime (as in the library) or with others (`python -m benchmarks.speed.threads`).", "",
                  *table(["threads", "torch's product, ms", "ours, ms"], lines)]  # fmt: skip
    if run := last("factorise", results):
        lines = [[size, name, _milliseconds(r["median_us"]), f"{r['times_faster_than_general']:.2f}x"]
                 for size, ways in run.result.items() for name, r in ways.items()]  # fmt: skip
        parts += ["### Stepping around earlier edits", "", *source_line(run), 'With `write="preconditioned"` each edit needs one matrix factorisation. Its '
                  "time (`cholesky`), compared with a general solve and with a low-rank sketch by the Woodbury identity "
                  "(`python -m benchmarks.speed.factorise`):", "",
                  *table(["mask", "method", "ms", "times faster than the general solve"], lines)]  # fmt: skip
    if run := last("kernels", results):
        found = run.result
        lines = [
            [name, next(iter(found[name]["served"].values())), *_scores(found[name])] for name in ("auto", "reference")
        ]
        parts += ["### The same edits without the kernels", "", *source_line(run),
                  f"{run.settings['edits']}, one permutation (`python -m benchmarks.speed.kernels`). Equal answers: "
                  f"{found['equal_answers']:.0%}. The losses differ by at most {found['largest_loss_difference']:.1e}, the memories by "
                  f"{found['memory_difference']:.1e} of their norm." + (f" {found['note']}" if "note" in found else ""), "",
                  *table(["backend", "served by", "reliability", "generalization", "locality"], lines)]  # fmt: skip
    return parts


def _scores(found: dict) -> list[str]:
    return [number(found[name]) for name in ("reliability", "generalization", "locality")]


def editing(results: Path) -> list[str]:
    run = last("edit_speed", results)
    if run is None:
        return []
    found = run.result
    lines = [[name, f"{found[f'{name}_s']:.2f}", f"{found[f'{name}_ratio']:.1f}x" if f"{name}_ratio" in found else "",
              f"{found[f'{name}_steps']:.1f}", *_scores(found[f"{name}_metrics"]),
              *(number(found[f"{name}_metrics"].get(f"ended_{part}")) for part in ("prompt", "rephrase")),
              number(found["floor_fraction"].get(name))]
             for name in EDITORS if f"{name}_s" in found]  # fmt: skip
    head = [
        "",
        "seconds per edit",
        "times faster",
        "mean steps",
        "reliability",
        "generalization",
        "locality",
        "prompts answered, ended",
        "rephrasings answered, ended",
        "matrix products' share",
    ]
    return [
        "## Editing", "", *source_line(run),
        f"{run.settings['edits']} of ZsRE, edited with the published method (`benchmarks/rivals/published.py`) and with the library, "
        "alternately (`python -m benchmarks.speed.edit_speed`). `exact` makes the published update step for step, both "
        f"{optimised(run.settings)}. `default` is the library's own update under the same conditions (plain text, ten contexts). `chat` is the library with all "
        "its defaults: in the model's chat template, with two wordings made from the prompt instead of contexts. `fast` and `chat_fast` are these two "
        "with `precision=\"fast\"`. Reliability, generalization and locality are teacher-forced; "
        "\"answered, ended\" is the share of freely generated answers that are the target and then end.", "",
        *table(head, lines, drop_empty=True),
        f"At the end the losses of `exact` and of the published editor are at most {found['loss_difference']['largest']:.0e} apart. The last column is the share of "
        "the library's time that the matrix products of the layers above the memory alone would take, at this machine's measured float32 rates.", "",
        "![seconds an edit](images/edit_speed.svg)", "",
    ]  # fmt: skip


def batched(results: Path) -> list[str]:
    run = last("batched", results)
    if run is None:
        return []
    lines = [[r["precision"], str(r["batch_size"]), f"{r['s_per_edit']:.2f}", *_scores(r)] for r in run.result["rows"]]
    return [
        "### Several facts in the same steps", "", *source_line(run),
        "`edit_many` with the default settings (`python -m benchmarks.speed.batched`): each batch takes as many steps as its slowest fact.", "",
        *table(["precision", "facts at a time", "seconds per edit", "reliability", "generalization", "locality"], lines),
    ]  # fmt: skip


def long_edits(results: Path) -> list[str]:
    runs = list({row.settings["edits"]: row for row in rows.read("long_edits", results)}.values())
    if not runs:
        return []
    names = ("published", "exact", "fast", "chat", "chat_fast")
    lines = []
    for row in runs:
        r, forward = row.result, row.result["forward"]["peak_mb"]
        for name in names:
            if name in r:
                faster = f"{r[f'{name}_ratio']:.1f}x" if name != "published" else ""
                steps = " and ".join(map(str, r[name].get("steps", [row.settings["steps"]])))
                accuracy = number(r[name]["accuracy"]) if "accuracy" in r[name] else ""
                lines.append([row.settings["edits"], f"`{name}`", f"{r[name]['seconds']:.1f}", faster, steps, accuracy,
                              f"{r[name]['peak_mb'] / forward:.2f}", source(row)])  # fmt: skip
    return [
        "### Long edits", "",
        "Edits with a passage as their target (`python -m benchmarks.speed.long_edits`): seconds an edit and how many times faster than the published editor. "
        f"`exact` and `fast` make its own steps ({optimised(runs[-1].settings)}, the same permutation), `chat` and `chat_fast` are the library's defaults. Accuracy is "
        "the share of the passage's tokens by teacher forcing, after all edits. Memory is the peak above the loaded model, as a multiple of what one unedited "
        "forward pass over the padded batch with full logits takes.", "",
        *table(["edits", "editor", "seconds", "faster", "steps", "accuracy", "memory", "source"], lines),
        "A calculation that counts the operations of the matrix products: `exact` needs 4.6 times fewer than the published method on the hallucination "
        "rows, and 2.2 times fewer on the temporal ones, where nearly every training token is a target. (It has no row in the results files.)", "",
    ]  # fmt: skip


def dropin(results: Path) -> list[str]:
    run = last("dropin", results)
    if run is None:
        return []
    names = ("rewrite_acc", "rephrase_acc", "neighborhood_acc")
    lines = [[title, *(number(run.result[key][name]) for name in names), f"{run.result[key]['seconds']:.1f}"]
             for key, title in (("base_editor", "`BaseEditor` of `memoir_fast.compat`"), ("published", "the published method"))]  # fmt: skip
    return [
        "### The drop-in front", "", *source_line(run),
        f"{run.settings['count']} edits of {run.settings['edits']}, with the same settings and permutation, {optimised(run.settings['config'])} "
        "(`python -m benchmarks.speed.dropin`).", "", *table(["", *names, "seconds per edit"], lines),
    ]  # fmt: skip


def reading(results: Path) -> list[str]:
    run = last("generate", results)
    if run is None:
        return []
    lines = [[kind, str(size), f"{run.result[f'{kind}_batch{size}']:+.1%}", f"{run.result[f'{kind}_first_token_batch{size}']:+.1%}"]
             for kind in ("unmatched", "matched") for size in (1, 8)]  # fmt: skip
    return [
        "## Reading", "", *source_line(run),
        f"How much longer generating {run.settings['new_tokens']} tokens takes with the memory than with the unedited model; the two generate token by token in turn "
        "(`python -m benchmarks.speed.generate`). Negative is faster.", "",
        *table(["prompts", "batch", "per token", "first token"], lines),
    ]  # fmt: skip


def lookup(results: Path) -> list[str]:
    run = last("lookup", results)
    if run is None:
        return []
    r = run.result
    return [
        "### Look-up", "", *source_line(run),
        *(_masks(run) if "ours_ms" in r else []), *(_words(r["words"]) if "words" in r else []),
    ]  # fmt: skip


def _masks(run) -> list[str]:
    r = run.result
    lines = [["ours", f"{r['ours_ms']:.2f}"], ["the published product of floats", f"{r['published_ms']:.1f}"],
             *([["FAISS, flat", f"{r['faiss_ms']:.2f}"]] if "faiss_ms" in r else []), ["a plain read of the same bytes", f"{r['stream_ms']:.2f}"]]  # fmt: skip
    found = [
        f"D = {run.settings['D']}, k = {run.settings['k']} (`python -m benchmarks.speed.lookup`). One query over 5,000 edits is "
        f"{r['ratio']:.0f} times faster than the published product, and takes {r['stream_ratio']:.2f} times as long as a plain read.", "",
        *table(["method", "ms per query"], lines),
    ]  # fmt: skip
    if "masks" in r:
        sizes = [[f"{m['edits']:,}", f"{m['ours_ms']:.2f}", f"{m['faiss_ms']:.2f}", f"{m['faiss_threads_ms']:.2f}", f"{m['recall']:.1%}",
                  f"{m['bytes_per_edit']:.0f}"] for m in r["masks"]]  # fmt: skip
        head = [
            "masks",
            "ours, ms",
            "FAISS, one thread, ms",
            "FAISS, all threads, ms",
            "ours finds the nearest",
            "bytes per edit",
        ]
        return [*found, *table(head, sizes)]
    return [  # a row from before FAISS was measured at every size
        *found,
        f"One query over {r['million_edits']:,} edits takes {r['million_ms']:.1f} ms and finds the exhaustive search's answer in {r['million_recall']:.1%} of "
        f"{r['million_queries']} queries; the index takes {r['million_bytes_per_edit']:.0f} bytes per edit.", "",
    ]  # fmt: skip


def _words(sizes: list[dict]) -> list[str]:
    """Candidates and verification by words, and what the budget of postings costs and brings."""
    timed = {"words": "postings", "faiss": "word codes: FAISS", "scan": "our scan (nearest only)", "direct": "direct comparison",
             "verification": "verification", "numpy": "verification by numpy", "lookup": "**the whole look-up**"}  # fmt: skip
    timed = {name: said for name, said in timed.items() if name != "numpy" or any("numpy_ms" in w for w in sizes)}
    lines = [
        [f"{w['edits']:,}", *(_wall(w, name) for name in timed), *(f"{w[f'recall_{name}']:.3f}" for name in ("words", "codes", "both", "first"))]
        for w in sizes
    ]  # fmt: skip
    head = ["wordings", *timed.values(), "right one among 64 by words", "by codes", "by both", "right one likeliest"]
    budgets = [
        [f"{w['edits']:,}", f"{b['postings']:,}", _wall(b, "words"), f"{b['recall']:.3f}"]
        for w in sizes
        for b in w["budgets"]
    ]
    return [
        "By words: other wordings of stored facts are looked up among the project's generated questions. Milliseconds per query, with the processor time in "
        f"parentheses; engine: {sizes[-1]['engine']}.", "", *table(head, lines),
        "A posting says that a wording contains a word. What it costs to read more of them, and what it brings:", "",
        *table(["wordings", "postings read at most", "ms", "right one among 64"], budgets),
    ]  # fmt: skip


def _wall(measured: dict, name: str) -> str:
    return f"{measured[f'{name}_ms']:.2f} ({measured[f'{name}_cpu_ms']:.2f})" if f"{name}_ms" in measured else ""


def scaling(results: Path) -> list[str]:
    run = last("scaling", results)
    if run is None:
        return []
    lines = [[f"{r['edits']:,}", f"{r['edit_s']:.1f} ({r['edit_steps']} steps)", f"{r['query_ms']:.1f}", f"{r['lookup_ms']:.3f}", str(r["rss_mb"]),
              f"{r['save_s']:.2f}", f"{r['load_s']:.2f}", f"{r['file_mb']:.2f}"] for r in run.result["rows"]]  # fmt: skip
    head = [
        "stored edits",
        "one edit, s",
        "one query, ms",
        "its look-up, ms",
        "process, MB",
        "saving, s",
        "loading, s",
        "files, MB",
    ]
    return [
        "## What grows with the number of edits", "", *source_line(run),
        "Synthetic masks fill the memory (`python -m benchmarks.speed.scaling`).", "", *table(head, lines),
        "![cost against stored edits](images/scaling.svg)", "",
        *([run.result["note"], ""] if "note" in run.result else []),
    ]  # fmt: skip


def serving(results: Path) -> list[str]:
    run = last("serving", results)
    if run is None:
        return []
    r, s = run.result, run.settings
    lines = [
        [kind, *(f"{r[f'{kind}_{name}_cost']:+.1%}" for name in ("seconds", "median_s", "p95_s"))]
        for kind in ("unmatched", "matched")
    ]
    refresh = r["refresh_under_load"]
    return [
        "## Serving", "", *source_line(run),
        f"Two vLLM servers on one core, one unedited and one with {s['edits']} edits (float32, eager), asked alternately: {s['requests']} requests of "
        f"{s['tokens']} tokens at concurrency {s['concurrency']}. The table compares medians over rounds with those of the unedited server, which answered "
        f"{r['unedited_requests_per_s']} requests per second (`python -m benchmarks.speed.serving`).", "",
        *table(["prompts", "time of a round", "median latency", "95th percentile"], lines),
        f"With a refresh in the middle of another {refresh['asked']} requests, {refresh['answered']} were answered.", "",
    ]  # fmt: skip


def serving_load(results: Path) -> list[str]:
    run = last("serving_load", results)
    if run is None:
        return []
    r, s = run.result, run.settings
    lines = [[kind, *(f"{r[kind][name]:.2f} s" for name in ("median_s", "p95_s"))] for kind in ("unedited", "edited")]
    lines.append(["cost", *(f"{r[f'{name}_cost']:+.1%}" for name in ("median_s", "p95_s"))])
    return [
        "### Edits that arrive under load", "", *source_line(run),
        f"{s['requests']:,} chats at concurrency {s['concurrency']} to each of two servers that share a core, in {s['rounds']} rounds by turns; meanwhile "
        f"{r['edits_arrived']} edits reached the edited one through the editing service. Every answer was checked against what was live when it was asked: "
        f"{r['wrong']} were wrong, {r['answered']:,} of {s['requests']:,} were answered. An edit was live after {r['live_median_s']:.2f} s (median; at most "
        f"{r['live_most_s']:.2f} s) (`python -m benchmarks.speed.serving_load`).", "",
        *table(["server", "median latency", "95th percentile"], lines),
    ]  # fmt: skip


def serving_prefix(results: Path) -> list[str]:
    run = last("serving_prefix", results)
    if run is None:
        return []
    r, s = run.result, run.settings
    lines = [[kind, *(f"{r[f'{kind}_{name}_s']:.1f} s" for name in ("uncached", "cached")), f"{r[f'{kind}_gain']:.2f}x"]
             for kind in ("unedited", "edited")]  # fmt: skip
    return [
        "### Prefix caching", "", *source_line(run),
        f"{s['requests']} chats behind a shared system prompt of about 500 tokens, with vLLM's prefix cache and without, in {s['rounds']} rounds (medians): "
        f"the edited server has {r['share_of_gain']:.2f} of the unedited one's gain (`python -m benchmarks.speed.serving_prefix`).", "",
        *table(["server", "without the cache", "with it", "gain"], lines),
    ]  # fmt: skip


def checkouts(results: Path) -> list[str]:
    run = last("checkouts", results)
    if run is None:
        return []
    lines = [[name, f"{times['before_s'] * 1000:.3f}", f"{times['now_s'] * 1000:.3f}", f"{times['ratio']:.3f}"]
             for name, times in run.result["times"].items()]  # fmt: skip
    before, now = (sum(run.result["steps"][name]) for name in ("before", "now"))
    return [
        "## Against an earlier checkout", "", *source_line(run),
        f"Commit `{run.settings['other']}` and this one in turns ({run.settings['pairs']} runs of each, `python -m benchmarks.speed.checkouts`), on the settings "
        f"that both know: plain text, masks that route, ten contexts. CPU time, one thread, medians. The {run.settings['count']} edits took {before} and {now} steps.", "",
        *table(["", "before, ms", "now, ms", "ratio"], lines),
    ]  # fmt: skip
