"""`status()`: what was built, what is loaded, which implementation each op takes on each device, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ._native import native
from .ops._registry import DEVICES, NATIVE_DEVICES, REGISTRY, reasons_against_native, runs_as_parts


@dataclass(frozen=True)
class OpStatus:
    """One op on one device: implementation is "native", "parts" (the native kernels of the ops it consists of) or
    "reference"; kernel names what runs; reasons say why not a native kernel."""

    implementation: str
    kernel: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """What `status()` returns; print() shows it as a table.

    torch: its version; build: `build_info()` or None; loaded: library -> path; problems: library -> reason it is not
    loaded; cpu_level: SIMD level of the CPU kernels; cuda_available: a usable GPU; ops: op -> device -> OpStatus.
    """

    torch: str
    build: dict[str, Any] | None
    loaded: dict[str, str]
    problems: dict[str, str]
    cpu_level: str
    cuda_available: bool
    ops: dict[str, dict[str, OpStatus]]

    def __str__(self) -> str:
        lines = [f"torch      {self.torch}"]
        for name in DEVICES:
            state = self.problems.get(name) or f"loaded from {self.loaded[name]}"
            lines.append(f"{name:<10} {state}")
        if self.build is not None:
            b = self.build
            cuda = f"nvcc {b['nvcc']} for {b['cuda_archs']}" if b["cuda"] else "no CUDA"
            lines.append(
                f"built with {b['cxx']}, torch {b['built_with_torch']}, SIMD levels {b['simd_levels']}, {cuda}"
            )
        lines.append(f"SIMD level {self.cpu_level or 'none'}")
        lines.append(f"GPU        {'available' if self.cuda_available else 'none that torch can use'}")
        for op, devices in self.ops.items():
            for device, entry in devices.items():
                known = self.problems.get(device)
                reasons = ["see above" if reason == known else reason for reason in entry.reasons]
                why = f"  ({'; '.join(reasons)})" if reasons else ""
                lines.append(f"{op:<14} {device:<5} {entry.implementation:<10} {entry.kernel}{why}")
        return "\n".join(lines)


def status() -> Status:
    """What this installation of cips3d_ext can do. `print(cips3d_ext.status())` shows it as a table."""
    level = torch.ops.cips3d_ext.cpu_level() if "cpu" in native.loaded else ""
    ops = {name: {device: _op_status(name, device, level) for device in DEVICES} for name in sorted(REGISTRY)}
    return Status(
        torch=torch.__version__,
        build=native.build,
        loaded=dict(native.loaded),
        problems=dict(native.problems),
        cpu_level=level,
        cuda_available=torch.cuda.is_available(),
        ops=ops,
    )


def _op_status(name: str, device: str, level: str) -> OpStatus:
    if device in NATIVE_DEVICES[name]:
        return OpStatus("native", f"csrc/{name} ({level if device == 'cpu' else _cuda(name)})", ())
    reasons = tuple(reasons_against_native(name, device))
    if runs_as_parts(name, device):
        return OpStatus("parts", ", ".join(f"csrc/{part}" for part in REGISTRY[name].parts), reasons)
    return OpStatus("reference", f"cips3d_ext.reference.{name}", reasons)


def _cuda(name: str) -> str:
    """What rules an op's CUDA kernels."""
    if "reduced_precision" not in REGISTRY[name].options:
        return "CUDA"
    return f"CUDA, float32 products at {torch.get_float32_matmul_precision()!r}"
