"""What the fronts are tried with: a YAML file, two facts, logits of a text."""

from __future__ import annotations

import torch

from tests.support.models import word_tokenizer

YAML = """
alg_name: "MEMOIR"
model_name: none
device: cpu
edit_lr: 3e0
n_iter: 60
objective_optimization: only_label
inner_params:
- model.layers[1].mlp.down_proj.weight
top_k: 24
irr_threshold: 0.7
prompt_feature_agg: mean_decentered
use_chat_template: false
batch_size: 2
"""
PROMPTS, TARGETS = ["w100 w101 w102", "w110 w111 w112 w113"], ["w150", "w151 w152"]
REPHRASED = ["w100 w102 w101", "w111 w110 w112 w113"]
LOCAL = {"neighborhood": {"prompt": ["w30 w31 w32", "w40 w41"], "ground_truth": ["w33", "w42 w43"]}}


def logits(model, text, **kwargs):
    """(1, T, V): a text through a model's forward pass."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([word_tokenizer()(text)["input_ids"]]), **kwargs).logits
