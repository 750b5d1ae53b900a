"""Memory of one step, as torch's allocators count it (what a CPU kernel takes for itself alone is not torch's)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

MEGABYTE = 2**20


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """The profiler's native code reports its starts and stops on the error stream."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def memory_mb(step: Callable[[], Any], device: str) -> tuple[float, float]:
    """(peak, held) in MB beyond what was there before: the most during `step`, and what its result keeps alive."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = step()
        held, peak = (f() - before for f in (torch.cuda.memory_allocated, torch.cuda.max_memory_allocated))
    else:
        with warnings.catch_warnings(), _quiet_stderr():
            warnings.simplefilter("ignore")  # the profiler warns about its own clock
            cpu = [torch.profiler.ProfilerActivity.CPU]
            with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
                result = step()
        assert profile.profiler is not None and profile.profiler.kineto_results is not None
        held = peak = 0
        changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        for event in sorted(changes, key=lambda e: e.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
    del result
    return peak / MEGABYTE, held / MEGABYTE
