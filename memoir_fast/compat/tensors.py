"""Reads and writes the published editor's tensors: background features and memories."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base import files
from ..errors import quoted
from ..journal.edit_record import EditRecord
from ..model import MemoirModel
from ..reading.background import MEAN_TEXTS


def load_background(path: str | Path) -> torch.Tensor:
    """(D,) float32: a background from a `.pt` file: the mean of the first 100 rows of features (n, D), or a mean (D,).

    Raises:
        ValueError: the file is missing, is not a plain tensor, or holds NaN or infinity.
    """
    tensor = _load(path)
    if not isinstance(tensor, torch.Tensor) or tensor.dim() not in (1, 2) or not tensor.is_floating_point():
        raise ValueError(f"{path}: expected a float tensor (n, D) of background features")
    if not tensor.numel():
        raise ValueError(f"{path}: holds no background features")
    mean = tensor[:MEAN_TEXTS].float().mean(0) if tensor.dim() == 2 else tensor.float()
    if not torch.isfinite(mean).all():
        raise ValueError(f"{path}: the background features hold NaN or infinity")
    return mean


def import_memory(model: MemoirModel, path: str | Path) -> None:
    """Fill an empty memory from a `.pt` file with `new_weight` (d, D), `masks` (M, D) bool and `permutation` (D,).

    The model must have been made with the file's permutation (`permutation_of(path)`), layer and top_k.

    Raises:
        ValueError: the memory is not empty, or the file's tensors do not fit it; nothing is changed then.
    """
    memory, found = model.memory, _load(path)
    d, D = memory.out_features, memory.in_features
    if len(memory):
        raise ValueError(f"model: its memory holds {len(memory)} edits already, importing needs an empty one")
    if not isinstance(found, dict) or not {"new_weight", "masks", "permutation"} <= found.keys():
        raise ValueError(f"{path}: expected a dictionary with new_weight, masks and permutation")
    weight, masks = found["new_weight"], found["masks"]
    if tuple(weight.shape) != (d, D) or not weight.is_floating_point() or not torch.isfinite(weight).all():
        raise ValueError(f"{path}: new_weight must be ({d}, {D}) and finite, got {tuple(weight.shape)}")
    if masks.dtype != torch.bool or masks.dim() != 2 or masks.shape[1] != D or (masks.sum(1) != memory.top_k).any():
        raise ValueError(
            f"{path}: masks must be bool (M, {D}) with exactly {memory.top_k} ones a row, got {tuple(masks.shape)}"
        )
    permutation = found["permutation"]
    if permutation.is_floating_point() or not torch.equal(permutation.cpu().int(), memory.permutation.cpu()):
        raise ValueError(f"{path}: permutation is not the model's: make the model with permutation_of(path)")
    signatures = np.packbits(masks.cpu().numpy(), axis=1, bitorder="little")
    rows = [EditRecord(id=number, prompt="", target="").row() for number in range(len(masks))]
    with model.journal.writing, memory.lock:
        memory.fill(weight.float().T, 1.0, range(len(masks)), signatures)
        model.journal.state.adopt(rows, len(masks), Path(path))


def export_memory(model: MemoirModel, path: str | Path) -> None:
    """Write the memory to a `.pt` file for `import_memory`. Raises OSError, and ValueError for a memory of several pages."""
    torch.save(memory_tensors(model), path)


def memory_tensors(model: MemoirModel) -> dict[str, torch.Tensor]:
    """new_weight (d, D) float32, masks (M, D) bool, permutation (D,) int64, on the CPU: the memory as the published editor holds it. Raises
    ValueError for a memory of several pages."""
    memory = model.memory
    if len(memory.pages.held) > 1:
        raise ValueError(
            f"model: its edits lie in {len(memory.pages.held)} pages, and the published editor has one weight: make the memory with page_edits=0"
        )
    masks = torch.zeros(len(memory), memory.in_features, dtype=torch.bool)
    for row, edit in enumerate(memory.index.ids):
        masks[row, memory.indices_of(edit).long()] = True
    return {
        "new_weight": (memory.V * memory.scale).T.contiguous().cpu(),
        "masks": masks,
        "permutation": memory.permutation.long().cpu(),
    }


def permutation_of(path: str | Path) -> torch.Tensor:
    """(D,) int32: the permutation in a published memory file. Raises ValueError if it has none."""
    found = _load(path)
    if not isinstance(found, dict) or not isinstance(found.get("permutation"), torch.Tensor):
        raise ValueError(f"{path}: has no permutation")
    return found["permutation"].to(torch.int32)


def _load(path: str | Path) -> Any:
    """The contents of a `.pt` file: plain tensors, none of them larger than the file itself. Raises ValueError
    otherwise."""
    path = Path(path)
    descriptor = files.open_regular(path, os.O_RDONLY, follow=True)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as box:
                parts = box.infolist()
            if (
                any(part.compress_type != zipfile.ZIP_STORED for part in parts)
                or sum(p.file_size for p in parts) > size
            ):
                raise ValueError("its parts are compressed, which torch.save never does")
            file.seek(0)
            found = torch.load(file, weights_only=True, map_location="cpu")
        except Exception as error:  # torch.load fails in many ways on files that are not its own or contain code
            raise ValueError(
                f"{path}: not a file of plain tensors as torch.save writes it ({str(error)[:200]})"
            ) from None
    for tensor in found.values() if isinstance(found, dict) else [found]:
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"{path}: holds a {type(tensor).__name__}, expected plain tensors only")
        if tensor.numel() * tensor.element_size() > size:
            raise ValueError(
                f"{path}: a tensor of shape {quoted(tuple(tensor.shape))} is larger than the file: it repeats its values"
            )
    return found
