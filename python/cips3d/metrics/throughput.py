"""How many images a second a generator makes, and the memory that it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cips3d.training.trained import RAYS_AT_A_TIME, TrainedModel

LARGEST_BATCH = 16  # heads that are rendered together, as many as the renderer's chunks of rays take
SECONDS, FEWEST_ROUNDS = 2.0, 2  # how long is measured, after one round to warm up
STATUS, PEAK, RESET = Path("/proc/self/status"), "VmHWM:", Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # of clear_refs: the peak begins anew at what is resident now


@dataclass(frozen=True)
class Throughput:
    """images_per_second at `resolution`, `batch` at a time; peak_mib: on CUDA the most memory that tensors took, on
    the CPU the most that the whole process had resident (null where the system does not tell).
    """

    resolution: int
    batch: int
    images_per_second: float
    peak_mib: float | None
    device: str


def measure_throughput(model: TrainedModel, resolution: int, seed: int = 0) -> Throughput:
    """Images of `resolution` pixels, from codes to pixels on the CPU, by the fastest of the measured rounds."""
    batch = max(1, min(LARGEST_BATCH, RAYS_AT_A_TIME // resolution**2))
    codes, camera = model.codes(batch, seed), model.poses(batch, seed)
    _reset_peak(model.device)
    model.images(*codes, camera, resolution)
    rounds: list[float] = []
    while len(rounds) < FEWEST_ROUNDS or sum(rounds) < SECONDS:
        started = time.perf_counter()
        model.images(*codes, camera, resolution)  # ends on the CPU, so the device is done
        rounds.append(time.perf_counter() - started)
    return Throughput(resolution, batch, batch / min(rounds), _peak_mib(model.device), str(model.device))


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        RESET.write_text(RESET_PEAK)


def _peak_mib(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if not STATUS.exists():
        return None
    line = next((line for line in STATUS.read_text().splitlines() if line.startswith(PEAK)), None)
    return None if line is None else float(line.split()[1]) / 2**10  # "VmHWM:  1234 kB"
