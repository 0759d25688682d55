"""The project's tensor operations. Nothing here knows about models or edits.

Shapes as in `reference.py`: B prompts, N tokens, D features, d outputs, k active features, R masks, n training tokens.
"""

from .block_matmul import block_matmul, block_matmul_
from .dispatch import BACKENDS, OPERATIONS, backend_of, use_backend
from .masked_matmul import masked_matmul, masked_matmul_
from .masked_scatter import masked_scatter_
from .pair_features import extension_compares, pair_features
from .tophash import tophash, tophash_pooled
from .upload import upload

__all__ = [
    "BACKENDS",
    "OPERATIONS",
    "backend_of",
    "block_matmul",
    "block_matmul_",
    "extension_compares",
    "masked_matmul",
    "masked_matmul_",
    "masked_scatter_",
    "pair_features",
    "tophash",
    "tophash_pooled",
    "upload",
    "use_backend",
]
