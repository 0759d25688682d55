"""The CUDA extension's functions, see csrc/cuda/. Addresses are on the device; dtype codes: 0 float32, 1 bfloat16."""

def blocks(k: int, d: int) -> int:
    """How many partial sums of squares a scatter of (k, d) writes."""

def masked_scatter(
    V: int, v_dtype: int, d: int, v_stride: int, idx: int, k: int, A: int, a_dtype: int, G: int, g_dtype: int, n: int,
    scale: float, partial: int, squared: int, device: int, stream: int,
) -> None:  # fmt: skip
    """V[idx] += scale * A^T G on a stream; RuntimeError says what CUDA reports."""
