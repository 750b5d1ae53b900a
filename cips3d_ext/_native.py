"""The only loader of the compiled libraries.

`libcips3d_cpu.so` and `libcips3d_cuda.so` register kernels with PyTorch's dispatcher; `_C` says what was built. Loading
never fails for want of CUDA, never compiles and never waits on a lock: what cannot be loaded is recorded with its
reason, and the ops fall back to their references (`cips3d_ext.status()` tells).
"""

from __future__ import annotations

import importlib
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

REBUILD = "rebuild with `pip install --no-build-isolation --force-reinstall --no-deps .`"


@dataclass
class Native:
    """What was built, and what of it is loaded; `problems`: "cpu" or "cuda" -> why that library is not."""

    build: dict[str, Any] | None = None
    loaded: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _load() -> Native:
    native = Native()
    try:
        native.build = importlib.import_module("._C", __package__).build_info()
    except ImportError as error:
        reason = f"the compiled libraries are missing ({error}); install with `pip install .`"
        native.problems = {"cpu": reason, "cuda": reason}
        return native
    if _version(torch.__version__) < _version(native.build["min_torch"]):
        reason = f"torch {torch.__version__} is older than {native.build['min_torch']}; upgrade torch"
        native.problems = {"cpu": reason, "cuda": reason}
        warnings.warn(f"cips3d_ext: {reason}; using the PyTorch references", RuntimeWarning, stacklevel=2)
        return native
    if not native.build["cuda"]:
        native.problems["cuda"] = "built without CUDA: no nvcc was found, or CIPS3D_CUDA=OFF"
    for name in ("cpu", "cuda"):
        if name in native.problems:
            continue
        path = Path(__file__).resolve().parent / f"libcips3d_{name}.so"
        if not path.exists():
            native.problems[name] = f"{path} is missing; install with `pip install .`"
            continue
        try:
            torch.ops.load_library(str(path))
            native.loaded[name] = str(path)
        except (OSError, RuntimeError) as error:
            first_line = str(error).strip().splitlines()[0]
            native.problems[name] = f"{path.name} does not fit torch {torch.__version__} ({first_line}); {REBUILD}"
            warnings.warn(f"cips3d_ext: {native.problems[name]}", RuntimeWarning, stacklevel=2)
    return native


native = _load()
