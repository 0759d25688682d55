"""Write the golden files anew: python -m tests.golden.make FOLDER.

A tiny random model gets five edits in pages of three, one of which replaces an older one, one is disabled and one deleted; the store, a bundle of
it, and a memory folder are written, with `expected.json`, which says what a reader must find in them. Files that a release
wrote are never replaced: a new format version gets a folder of its own beside `v1`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.store import export_bundle
from tests.support.models import background_texts, word_tokenizer

FACTS = [
    ("w100 w101 w102", "w150", {"author": "ann", "tags": ["a"], "metadata": {"ticket": 7}}),
    ("w110 w111 w112 w113", "w151 w152", {"rephrasings": ["w113 w112"], "not_prompts": ["w110 w111"], "key": "b"}),
    ("w100 w101 w102", "w155", {"author": "ben"}),  # replaces edit 0
    ("w120 w121", "w153", {"tags": ["a", "b"]}),
    ("w130 w131 w132", "w154", {}),
]


D = 1536  # features, so many that C is held in its small form


def make(folder: Path) -> None:
    """Write store/, bundle.mfb, memory/ and expected.json into an empty folder."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(vocab_size=200, hidden_size=16, intermediate_size=D, num_hidden_layers=2,
                                        num_attention_heads=2, max_position_embeddings=64)).eval()  # fmt: skip
    settings = MemoirConfig(layer=0, top_k=48, steps=8, page_edits=3, contexts=60)
    model = MemoirModel(base, word_tokenizer(), settings, background_texts())
    model.create_store(folder / "store")
    for prompt, target, details in FACTS[:3]:
        model.edit(prompt, target, **details)
    model.store.compact()  # a snapshot and a second segment
    for prompt, target, details in FACTS[3:]:
        model.edit(prompt, target, **details)
    model.disable(1)
    model.delete(4)
    model.tag(3, ["b"])
    export_bundle(model.store, folder / "bundle.mfb")
    model.save_pretrained(folder / "memory")
    state = model.store.state
    expected = {
        "format_versions": {"store": 8, "memory": 7},
        "sizes": list(model.store.manifest.sizes),
        "seq": state.seq,
        "next_id": state.next_id,
        "statuses": {str(edit): status for edit, status in state.statuses.items()},
        "rows": [state.row(edit) for edit in state.entries],
        "norm_of_V": float(model.memory.V.norm()),
        "trace_of_C": float(model.memory.C.trace()),
        "signatures": {
            str(edit): model.memory.index.signature(edit).tobytes().hex() for edit in model.memory.index.ids
        },
    }
    model.close()
    for name in ("lock", "writer.json", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (folder / "store" / name).unlink(missing_ok=True)  # of this machine, not of the store
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
