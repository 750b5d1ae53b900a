"""Throughput counts the images that were made in the time that passed, and memory grows with what is held."""

import mmap

import torch

from cips3d.metrics import throughput
from cips3d.metrics.throughput import measure_throughput


def test_images_a_second(painted_ball, monkeypatch):
    seen = measure_throughput(painted_ball, 8)
    assert (seen.resolution, seen.batch, seen.device) == (8, 16, "cpu") and seen.images_per_second > 0
    clock = iter(range(1000))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))  # a second passes at every look
    assert measure_throughput(painted_ball, 8).images_per_second == 16
    assert measure_throughput(painted_ball, 64).batch == 4  # the rays of a batch are bounded


def test_peak_memory_begins_anew():
    throughput._reset_peak(torch.device("cpu"))
    before = throughput._peak_mib(torch.device("cpu"))
    block = mmap.mmap(-1, 64 * 2**20)  # 64 MiB that no allocator had before
    torch.frombuffer(block, dtype=torch.uint8).fill_(1)
    after = throughput._peak_mib(torch.device("cpu"))
    block.close()
    throughput._reset_peak(torch.device("cpu"))
    assert after - before > 50 and throughput._peak_mib(torch.device("cpu")) < after - 50
