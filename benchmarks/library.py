"""The parts of memoir_fast below its front that benchmarks measure or build on: the one place where they are imported."""

from memoir_fast import ops
from memoir_fast.base.loading import cache_folder, checkpoint_folder
from memoir_fast.base.running import device_of
from memoir_fast.cli.app import main as command_line
from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, summary_metrics
from memoir_fast.compat.tensors import import_memory
from memoir_fast.defaults import default_layer, default_wordings, rank_of
from memoir_fast.editing import rules
from memoir_fast.editing.layout import lay_out
from memoir_fast.editing.replay import Replay
from memoir_fast.editing.request import EditRequest
from memoir_fast.editing.rules import preconditioned
from memoir_fast.editing.suffix import Suffix
from memoir_fast.editing.update_rule import settled
from memoir_fast.evaluation import metrics
from memoir_fast.evaluation.facts import load_facts
from memoir_fast.journal.edit_record import EditRecord
from memoir_fast.memory.index import SignatureIndex
from memoir_fast.memory.residual import ResidualMemory
from memoir_fast.memory.symmetric import Symmetric
from memoir_fast.memory.update import Update
from memoir_fast.ops import cpu, reference, search, threads
from memoir_fast.reading.background import calibration_of
from memoir_fast.reading.matching.candidates import Candidates, summed
from memoir_fast.reading.matching.demands import offers
from memoir_fast.reading.matching.fitting import KEYS_FITTED, fit_classifier
from memoir_fast.reading.matching.key_store import KeyStore
from memoir_fast.reading.matching.keys import Wordings
from memoir_fast.reading.matching.matcher import Wording
from memoir_fast.reading.matching.near_miss_subjects import subjects
from memoir_fast.reading.matching.near_misses import CLASSES, Asked, make_near_misses
from memoir_fast.reading.matching.near_misses import wordings as relation_wordings
from memoir_fast.reading.matching.prompt_codes import PromptCode
from memoir_fast.reading.measure import parted
from memoir_fast.reading.probe import passes, prompt_signatures, read_prompts
from memoir_fast.reading.threshold import Threshold, overlaps
from memoir_fast.reading.word_rule import WordRule
from memoir_fast.serving.export import export_vllm
from memoir_fast.serving.section import section_of
from memoir_fast.serving.serve import server_command
from memoir_fast.serving.tables import tables_of
from memoir_fast.serving.vllm.live import Snapshot, forget
from memoir_fast.serving.vllm.served import Served
from memoir_fast.serving.vllm.words import ServedWords
from memoir_fast.store import Store, export_bundle, import_bundle
from memoir_fast.text import answers
from memoir_fast.text.encoder import Encoder
from memoir_fast.text.rewording import reworded

# The published protocol: plain text, no end behind the target, ten contexts, masks that route.
PLAIN = {"chat_template": False, "end": "none", "contexts": 10, "router": "mask"}
# The authors' optimisation, at the learning rate that the small model needs (theirs is 1.0, for 7 and 8 billion parameters).
PUBLISHED = {"recipe": "published", "edit_lr": 3.0}


def joined_prompts(encoder):
    """Texts and chats (lists of messages) to sequences, as `ask` encodes them."""
    return lambda query: encoder.chat(query) if isinstance(query, list) else encoder.prompt(query)


__all__ = [
    "CLASSES",
    "KEYS_FITTED",
    "PLAIN",
    "PUBLISHED",
    "Asked",
    "BaseEditor",
    "Candidates",
    "EditRecord",
    "EditRequest",
    "Encoder",
    "KeyStore",
    "MEMOIRHyperParams",
    "PromptCode",
    "Replay",
    "ResidualMemory",
    "Served",
    "ServedWords",
    "SignatureIndex",
    "Snapshot",
    "Store",
    "Suffix",
    "Symmetric",
    "Threshold",
    "Update",
    "WordRule",
    "Wording",
    "Wordings",
    "answers",
    "cache_folder",
    "calibration_of",
    "checkpoint_folder",
    "command_line",
    "cpu",
    "default_layer",
    "default_wordings",
    "device_of",
    "export_bundle",
    "export_vllm",
    "fit_classifier",
    "forget",
    "import_bundle",
    "import_memory",
    "joined_prompts",
    "lay_out",
    "load_facts",
    "make_near_misses",
    "metrics",
    "offers",
    "ops",
    "overlaps",
    "parted",
    "passes",
    "preconditioned",
    "prompt_signatures",
    "rank_of",
    "read_prompts",
    "reference",
    "relation_wordings",
    "reworded",
    "rules",
    "search",
    "section_of",
    "server_command",
    "settled",
    "subjects",
    "summary_metrics",
    "summed",
    "tables_of",
    "threads",
]
