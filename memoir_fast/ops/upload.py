"""Small tensors to the device without waiting for it."""

from __future__ import annotations

import torch


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on `device`. To a GPU it goes from pinned memory, in the order of the stream: the host does not wait for the copy.

    Args:
        tensor: any shape and dtype, on the CPU or on `device` already; device: where it is wanted.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
