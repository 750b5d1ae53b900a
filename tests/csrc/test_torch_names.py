"""The glue keeps to what the headers of the oldest supported torch (CIPS3D_MIN_TORCH) declare.

Later torches declare more, TORCH_TARGET_VERSION hides not all of it, and a library that builds here would not build
there. A new name joins the list once it was found in the headers of torch 2.10.
"""

import re

from .conftest import ROOT

IN_TORCH_2_10 = """
    STABLE_TORCH_LIBRARY STABLE_TORCH_LIBRARY_FRAGMENT STABLE_TORCH_LIBRARY_IMPL STD_TORCH_CHECK TORCH_ABI_VERSION
    TORCH_BOX TORCH_ERROR_CODE_CHECK
    aoti_torch_get_current_cuda_stream torch_call_dispatcher torch_delete_string torch_string_c_str torch_string_length
    torch::headeronly::ScalarType torch::stable::Tensor torch::stable::accelerator::DeviceGuard
    torch::stable::contiguous torch::stable::detail::from torch::stable::detail::to torch::stable::empty_like
    torch::stable::get_num_threads torch::stable::new_empty torch::stable::parallel_for torch::stable::to
    torch::stable::transpose torch::stable::zero_
"""
NAMES = re.compile(r"\b(?:(?:STABLE_TORCH|STD_TORCH|TORCH|THO|AOTI|aoti_torch|torch)_\w+|torch::[\w:]+\w)")


def test_glue_uses_names_of_the_oldest_torch_alone():
    used = set()
    for path in (ROOT / "csrc").rglob("*"):
        if path.suffix in (".h", ".cpp", ".cuh", ".cu"):
            lines = path.read_text().splitlines()
            used |= {name for line in lines if "#include" not in line for name in NAMES.findall(line)}
    assert used - {"torch_cuda"} == set(IN_TORCH_2_10.split())  # torch_cuda.h is a file of ours
