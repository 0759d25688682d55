"""Copies small tensors to a device without waiting for it."""

from __future__ import annotations

import torch


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on `device`. To a GPU it is copied from pinned memory, in stream order, so the host does not wait.

    Args:
        tensor: any shape and dtype, on the CPU or already on `device`.
        device: where it is needed.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
