"""The run-time choice of a SIMD level."""

import pytest
import torch


def test_level_is_the_one_asked_for(cpu_level_or_bf16):
    assert torch.ops.cips3d_ext.cpu_level() == cpu_level_or_bf16
    assert torch.ops.cips3d_ext.set_cpu_level("best") == cpu_level_or_bf16


def test_unknown_level_is_refused(cpu_level_or_bf16):
    with pytest.raises(RuntimeError, match="set_cpu_level: wanted 'best'.* got 'sse9'"):
        torch.ops.cips3d_ext.set_cpu_level("sse9")
    assert torch.ops.cips3d_ext.cpu_level() == cpu_level_or_bf16
