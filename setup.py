"""Drives CMake for `pip install .`: CMakeLists.txt holds sources, flags and architectures; this file finds torch."""

import hashlib
import importlib.util
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def find_torch() -> Path | None:
    """torch's folder. pip's isolated build hides the environment's packages from import, but building needs only
    torch's headers and two of its libraries, so an installed torch is used where it lies (no second download)."""
    spec = importlib.util.find_spec("torch")
    if spec and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    scheme = [sysconfig.get_path(name) for name in ("platlib", "purelib")]
    for folder in [*scheme, *site.getsitepackages(), site.getusersitepackages()]:
        if (Path(folder) / "torch" / "version.py").exists():
            return Path(folder) / "torch"
    return None


def find_tool(name: str) -> str:
    """This environment's own cmake or ninja (they are pip packages) before the system's."""
    path = shutil.which(name, path=os.path.join(sys.prefix, "bin")) or shutil.which(name)
    if path is None:
        raise SystemExit(f"cips3d_ext: building needs {name}; install it (pip install {name})")
    return path


class CMakeBuild(build_ext):
    def run(self) -> None:
        torch_dir = find_torch()
        if torch_dir is None:
            raise SystemExit("cips3d_ext: torch is not installed for this Python; install it first, then build again")
        cmake = find_tool("cmake")
        definitions = {
            "CIPS3D_TORCH_DIR": str(torch_dir),
            "CIPS3D_CUDA": os.environ.get("CIPS3D_CUDA", "AUTO"),
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": find_tool("ninja"),
            "pybind11_DIR": subprocess.check_output(
                [sys.executable, "-m", "pybind11", "--cmakedir"], text=True
            ).strip(),
        }
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        self.forget_stale_cache(build_dir, repr((cmake, sys.prefix, sorted(definitions.items()))))
        definitions["Python_EXECUTABLE"] = sys.executable
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        flags = [f"-D{key}={value}" for key, value in definitions.items()]
        subprocess.check_call([cmake, "-G", "Ninja", "-S", str(ROOT), "-B", str(build_dir), *flags])
        subprocess.check_call([cmake, "--build", str(build_dir), "-j", jobs])
        package = Path(self.get_ext_fullpath(self.extensions[0].name)).resolve().parent
        for old in [*package.glob("_C*.so"), *package.glob("libcips3d_*.so")]:
            old.unlink()  # e.g. the CUDA library of an earlier build when this one is for the CPU alone
        subprocess.check_call([cmake, "--install", str(build_dir), "--prefix", str(package)])

    @staticmethod
    def forget_stale_cache(build_dir: Path, configuration: str) -> None:
        """Another Python, torch or (pip's isolated) tool path: CMake's cache would point at files that are gone."""
        stamp = build_dir / "stamp"
        digest = hashlib.sha256(configuration.encode()).hexdigest()
        if build_dir.exists() and not (stamp.exists() and stamp.read_text() == digest):
            shutil.rmtree(build_dir)
        build_dir.mkdir(parents=True, exist_ok=True)
        stamp.write_text(digest)

    def get_outputs(self) -> list[str]:
        package = Path(self.get_ext_fullpath(self.extensions[0].name)).parent
        return [str(path) for path in package.glob("*.so")]


setup(
    packages=find_packages(".", include=["cips3d_ext*"]) + find_packages("python", include=["cips3d*"]),
    ext_modules=[Extension("cips3d_ext._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    setup_requires=[] if find_torch() else ["torch>=2.10"],  # pip reads this as a build requirement
)
