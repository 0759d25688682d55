"""The CUDA extension's functions, see csrc/cuda/. Addresses are on the device; dtype codes: 0 float32, 1 bfloat16."""

def blocks(k: int, d: int) -> int:
    """The number of partial sums of squares that a scatter of (k, d) writes."""

def masked_scatter(
    V: int, v_dtype: int, d: int, v_stride: int, idx: int, k: int, P: int, scale: float, partial: int, squared: int,
    device: int, stream: int,
) -> None:  # fmt: skip
    """V[idx] += scale * P on a stream, and the sum of P's squares. Raises RuntimeError with CUDA's message."""
