"""Builds the last commit and runs its tests under another release of PyTorch, on a machine without a GPU.

    python tests/other_torch.py 2.11.0 tests/ops tests/layers -q

What stands behind the version goes to pytest. Releases on PyPI are CUDA builds: this one is installed without the CUDA
libraries it asks for (gigabytes), and libraries of functions that do nothing but return 0 take their places, so that
torch is imported and finds no GPU. Everything goes to build/torch-VERSION, where a second call finds it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SYSTEM = (Path("/lib/x86_64-linux-gnu"), Path("/usr/lib/x86_64-linux-gnu"), Path("/lib64"), Path("/usr/lib64"))
NOT_WANTED = re.compile(r"nvidia|cuda|triton|torch\b")
BUILD = ("setuptools>=77,<82", "wheel", "ninja", "cmake>=3.22", "pybind11>=2.12", "pytest")


def output(*words: object) -> str:
    return subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True).stdout


def requirements(python: Path, package: str) -> list[str]:
    """What a package asks for but torch, extras, and what is for GPUs."""
    code = f"import importlib.metadata as m; print(*m.requires({package!r}), sep='\\n')"
    lines = output(python, "-c", code).splitlines()
    return [line for line in lines if "extra ==" not in line and not NOT_WANTED.match(line)]


def stand_in(libraries: list[Path], folder: Path) -> None:
    """Libraries of the names that these need and the system lacks; behind them one with all functions still missing."""
    folder.mkdir(exist_ok=True)
    needed = {name for path in libraries for name in re.findall(r"NEEDED.*\[(.*?)]", output("readelf", "-dW", path))}
    there = [place / name for place in SYSTEM for name in needed if (place / name).exists()]
    missing = needed - {path.name for path in [*libraries, *there]}
    defined, used = set(), set()
    for path in [*libraries, *there]:
        for fields in map(str.split, output("nm", "-D", path).splitlines()):
            name = fields[-1].split("@")[0]
            if len(fields) == 3:
                defined.add(name)
            elif fields[0] == "U" and path in libraries:
                used.add(name)
    functions = [name for name in sorted(used - defined) if not name.startswith(("Py", "_Py"))]
    labels = "".join(f".globl {name}\n.type {name},@function\n{name}:\n" for name in functions)
    (folder / "all.s").write_text(f".text\n{labels}  xorl %eax,%eax\n  ret\n")
    (folder / "none.s").write_text(".text\n")
    link = ("gcc", "-shared", "-nostdlib", "-Wl,--no-as-needed", f"-L{folder}", "-o")
    output(*link, folder / "liball.so", "-Wl,-soname,liball.so", folder / "all.s")
    for name in missing:  # functions with a version are not sought in the library of that version alone
        output(*link, folder / name, f"-Wl,-soname,{name}", folder / "none.s", "-lall")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="such as 2.10.0")
    args, pytest = parser.parse_known_args()
    folder = ROOT / "build" / f"torch-{args.version}"
    python, source, stubs = folder / "venv" / "bin" / "python", folder / "source", folder / "stubs"
    if not (folder / "ready").exists():
        output(sys.executable, "-m", "venv", folder / "venv")
        install = (python, "-m", "pip", "install", "-q")
        output(*install, "--no-deps", f"torch=={args.version}")
        output(*install, *BUILD, *requirements(python, "torch"))
        torch = Path(output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()) / "torch"
        stand_in([*(torch / "lib").glob("*.so*"), *torch.glob("_C*.so")], stubs)
        (folder / "ready").touch()
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"LD_LIBRARY_PATH": str(stubs), "PATH": path, "PYTHONPATH": ""}
    if not source.exists():
        output("git", "clone", "-q", ROOT, source)
    commit = output("git", "-C", ROOT, "rev-parse", "HEAD").strip()
    output("git", "-C", source, "fetch", "-q", ROOT, commit)
    output("git", "-C", source, "checkout", "-q", commit)
    install = (python, "-m", "pip", "install", "-q")
    subprocess.run([*install, "--no-build-isolation", "--no-deps", "-e", "."], check=True, cwd=source, env=environment)
    subprocess.run([*install, *requirements(python, "cips3d-ext")], check=True)
    raise SystemExit(subprocess.run([python, "-m", "pytest", *pytest], cwd=source, env=environment).returncode)


if __name__ == "__main__":
    main()
