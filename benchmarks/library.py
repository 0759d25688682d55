"""The parts of memoir_fast below its front that benchmarks measure or build on: the one place where they are imported."""

from memoir_fast import ops
from memoir_fast.base.loading import checkpoint_folder
from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, summary_metrics
from memoir_fast.compat.tensors import import_memory
from memoir_fast.editing.layout import lay_out
from memoir_fast.editing.request import EditRequest
from memoir_fast.editing.rules import preconditioned, settled
from memoir_fast.evaluation import metrics
from memoir_fast.evaluation.facts import load_facts
from memoir_fast.memory.index import SignatureIndex
from memoir_fast.ops import cpu, reference, threads
from memoir_fast.reading.features import rarity
from memoir_fast.reading.probe import passes, prompt_signatures
from memoir_fast.reading.threshold import Threshold, overlaps
from memoir_fast.serving.export import export_vllm
from memoir_fast.serving.serve import FLAGS, server_command
from memoir_fast.store import Store
from memoir_fast.text.encoder import Encoder

# The published protocol: plain text, no end behind the target, ten contexts.
PLAIN = {"chat_template": False, "end": "none", "contexts": 10}

__all__ = [
    "FLAGS",
    "PLAIN",
    "BaseEditor",
    "EditRequest",
    "Encoder",
    "MEMOIRHyperParams",
    "SignatureIndex",
    "Store",
    "Threshold",
    "checkpoint_folder",
    "cpu",
    "export_vllm",
    "import_memory",
    "lay_out",
    "load_facts",
    "metrics",
    "ops",
    "overlaps",
    "passes",
    "preconditioned",
    "prompt_signatures",
    "rarity",
    "reference",
    "server_command",
    "settled",
    "summary_metrics",
    "threads",
]
