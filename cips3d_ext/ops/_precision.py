"""The setting that rules how kernels multiply float32 numbers."""

from __future__ import annotations

import torch


@torch.compiler.assume_constant_result  # torch.compile compiles again when the setting changes
def reduced_precision() -> bool:
    """Whether float32 products may round their operands: torch's own setting for matrix products."""
    return torch.get_float32_matmul_precision() != "highest"
