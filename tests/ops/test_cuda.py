"""What only a GPU can show: other streams, CUDA graphs, other devices."""

import pytest
import torch

from cips3d_ext.testing import CASES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
FIRST = {case.op: case for case in reversed(CASES)}  # one call of each op
every_op = pytest.mark.parametrize("case", FIRST.values(), ids=FIRST)
NAP = 20_000_000  # GPU cycles, about 10 ms: work on a wrong stream would overtake it


def same(first: tuple, second: tuple) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_op
def test_kernels_run_on_the_current_stream(case):
    tensors = case.tensors(torch.float32, "cuda")
    expected = case.run(tensors, "fused")
    empty = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(NAP)
        for name, tensor in tensors.items():
            empty[name].copy_(tensor)
        outputs = case.run(empty, "fused")
    stream.synchronize()
    assert same(outputs, expected)


@every_op
def test_graphs_capture_kernels(case):
    tensors = case.tensors(torch.float32, "cuda")
    expected = case.run(tensors, "fused")  # warms up
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = case.run(tensors, "fused")
    for output in outputs:
        output.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert same(outputs, expected)


@every_op
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_kernels_run_on_the_device_of_their_tensors(case):
    tensors = case.tensors(torch.float32, "cuda:1")
    outputs = case.run(tensors, "fused")
    assert all(output.device == torch.device("cuda:1") for output in outputs)
    expected = case.run(case.tensors(torch.float32, "cuda:0"), "fused")
    assert same(tuple(output.cpu() for output in outputs), tuple(output.cpu() for output in expected))
