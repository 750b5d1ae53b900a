"""The CUDA kernels as CPU ops: `emulated` builds csrc/emulator (incrementally) and loads it."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cips3d_ext.ops import _registry  # importing it defines the schemas that the emulated ops share

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = os.environ.get("CIPS3D_SANITIZE", "")  # set by run_sanitized.sh
SCHEDULES = (("forward", 1), ("reverse", 1), ("skew", 1))


def build_emulator(sanitizers: str) -> Path:
    """Path of libcips3d_emulator.so, built if a source is newer."""
    build = ROOT / "build" / ("emulator-sanitized" if sanitizers else "emulator")
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}  # the tools need no sanitizer
    # cmake and ninja are pip packages of this environment
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    definitions = {
        "CIPS3D_EMULATOR": "ON",
        "CIPS3D_WERROR": "ON",
        "CIPS3D_SANITIZE": sanitizers,
        "CIPS3D_TORCH_DIR": str(Path(torch.__file__).parent),
        "CMAKE_MAKE_PROGRAM": shutil.which("ninja", path=environment["PATH"]) or "ninja",
        "Python_EXECUTABLE": sys.executable,
    }
    flags = [f"-D{key}={value}" for key, value in definitions.items()]
    configure = ["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(build), *flags]
    for command in (configure, ["cmake", "--build", str(build), "-j2"]):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return build / "libcips3d_emulator.so"


def define_schemas() -> None:
    """Gives the emulated ops the schemas of cips3d_ext's ops."""
    library = torch.library.Library("cips3d_emulated", "FRAGMENT")
    for qualified in torch._C._dispatch_get_all_op_names():
        if qualified.startswith("cips3d_ext::"):
            name = qualified.removeprefix("cips3d_ext::")
            library.define(str(getattr(torch.ops.cips3d_ext, name).default._schema).removeprefix("cips3d_ext::"))
    define_schemas.library = library  # type: ignore[attr-defined]  definitions live as long as it does


class Emulated:
    """The emulated ops. `ops.<op>(...)` runs in the schedule set last."""

    ops = torch.ops.cips3d_emulated
    schedules = SCHEDULES
    sanitized = bool(SANITIZERS)

    def names(self) -> list[str]:
        """The dispatcher ops that have an emulated kernel."""
        qualified = [op for op in torch._C._dispatch_get_all_op_names() if op.startswith("cips3d_ext::")]
        names = [op.removeprefix("cips3d_ext::") for op in qualified]
        has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
        return [name for name in names if has_kernel(f"cips3d_emulated::{name}", "CPU")]

    def schedule(self, order: str, seed: int) -> None:
        self.ops.set_schedule(order, seed)

    def in_all_schedules(self, op: Any, *args: Any) -> Any:
        """Result of `op`, which must be the same bits in every schedule."""
        results = []
        for order, seed in self.schedules:
            self.schedule(order, seed)
            results.append(op(*args))
        self.schedule(*self.schedules[0])
        for other in results[1:]:
            pairs = zip(results[0], other, strict=True) if isinstance(other, tuple) else [(results[0], other)]
            for first, again in pairs:
                assert torch.equal(first, again), f"{op} depends on the order of threads"
        return results[0]


@pytest.fixture(scope="session")
def emulated() -> Emulated:
    torch.ops.load_library(str(build_emulator(SANITIZERS)))
    define_schemas()
    return Emulated()


@pytest.fixture(scope="module")
def on_emulator(emulated: Emulated) -> Iterator[Emulated]:
    """While it lasts the public functions of cips3d_ext run the emulated CUDA kernels for CPU tensors."""
    library = torch.library.Library("cips3d_ext", "IMPL")
    native = dict(_registry.NATIVE_DEVICES)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*[Oo]verriding a previously registered kernel", UserWarning)
        for name in emulated.names():
            library.impl(name, getattr(emulated.ops, name).default, "CPU")
    _registry.NATIVE_DEVICES.update({op: frozenset({"cpu"}) for op in emulated.names() if op in native})
    yield emulated
    _registry.NATIVE_DEVICES.update(native)
    library._destroy()
