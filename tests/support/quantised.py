"""Tiny models whose weights are quantised, as the packages do it that are installed; a test of one that is not is skipped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.support.families import tiny_family

# Rows of 64 and 192 numbers: optimum-quanto gives a row of 64 one scale, and one of 192 a scale for every 96 numbers.
_SIZES = {"hidden_size": 64, "intermediate_size": 192, "head_dim": 16}


def _torchao(config: str, **settings: object) -> Callable[[nn.Module], None]:
    def quantise(model: nn.Module) -> None:
        quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
        made = {name: value(quantization) if callable(value) else value for name, value in settings.items()}
        quantization.quantize_(model, getattr(quantization, config)(**made))

    return quantise


def _quanto(weights: str, activations: str | None = None) -> Callable[[nn.Module], None]:
    def quantise(model: nn.Module) -> None:
        quanto = pytest.importorskip("optimum.quanto", reason="optimum-quanto is not installed")
        quanto.quantize(
            model, weights=getattr(quanto, weights), activations=activations and getattr(quanto, activations)
        )
        quanto.freeze(model)

    return quantise


def _bitsandbytes(kind: str, nested: bool) -> Callable[[nn.Module], None]:
    def quantise(model: nn.Module) -> None:
        bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
        for path, module in list(model.named_modules()):
            if type(module) is nn.Linear:
                made = bnb.nn.Linear4bit(
                    module.in_features,
                    module.out_features,
                    module.bias is not None,
                    quant_type=kind,
                    compress_statistics=nested,
                )
                made.load_state_dict(module.state_dict())
                parent, _, name = path.rpartition(".")
                setattr(model.get_submodule(parent), name, made.to(module.weight.dtype).to("cpu").requires_grad_(False))

    return quantise


# Weights that the hand-written passes read. Every linear layer is quantised, the head too.
READ: dict[str, Callable[[nn.Module], None]] = {
    "torchao int8": _torchao("Int8WeightOnlyConfig"),
    "torchao int8, groups": _torchao("Int8WeightOnlyConfig", granularity=lambda q: q.PerGroup(32)),
    "torchao int4, groups": _torchao(
        "IntxWeightOnlyConfig", weight_dtype=torch.int4, granularity=lambda q: q.PerGroup(32)
    ),
    "torchao int3, with zeros": _torchao(
        "IntxWeightOnlyConfig", weight_dtype=torch.int3, mapping_type=lambda q: q.MappingType.ASYMMETRIC
    ),
    "torchao float8": _torchao("Float8WeightOnlyConfig"),
    "quanto int8": _quanto("qint8"),
    "quanto float8": _quanto("qfloat8"),
    "quanto int4": _quanto("qint4"),
    "quanto int2": _quanto("qint2"),
}
# These pass no gradient back themselves on some CPUs; vocabularies must be multiples of 32 there.
PACKED: dict[str, Callable[[nn.Module], None]] = {
    "bitsandbytes nf4": _bitsandbytes("nf4", nested=False),
    "bitsandbytes fp4, scales quantised too": _bitsandbytes("fp4", nested=True),
}
# Weights whose layers compute something else than their input times the weight, or that are packed otherwise.
LEFT: dict[str, Callable[[nn.Module], None]] = {
    "torchao int8, activations too": _torchao("Int8DynamicActivationInt8WeightConfig"),
    "torchao int4, activations too": _torchao("Int8DynamicActivationIntxWeightConfig", weight_dtype=torch.int4),
    "quanto int8, activations too": _quanto("qint8", "qint8"),
}


def quantised_model(kind: str, family: str = "llama", dtype: torch.dtype = torch.float32, **sizes: int):
    """A random model of a family in eval mode, quantised; its norms and biases matter."""
    model = tiny_family(family, **{**_SIZES, **sizes})
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.normal_(std=0.3, generator=draw)
            elif "RMSNorm" in type(module).__name__:
                module.weight.uniform_(0.5, 1.5, generator=draw)
    model = model.to(dtype)
    {**READ, **PACKED, **LEFT}[kind](model)
    return model.eval()
