"""The precisions in which the CUDA kernels that multiply on tensor cores are tested."""

import pytest
import torch

MODES = [  # dtype, and whether float32 products may be rounded
    (torch.float64, False),
    (torch.float32, False),
    (torch.float32, True),
    (torch.bfloat16, False),
    (torch.float16, False),
]
every_mode = pytest.mark.parametrize(("dtype", "reduced"), MODES, ids=str)
