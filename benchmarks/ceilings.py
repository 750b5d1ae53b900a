"""What this machine can do at most, measured: copying, matrix products, and exponentials on a GPU.

    python benchmarks/ceilings.py        # rows in results/ceilings.jsonl, for the rooflines of report.py

The rate of a GPU's special-function units comes from a chain of exponentials that torch.compile fuses into one kernel:
each is one MUFU.EX2 and a multiplication, at the same rate as MUFU.SIN, so the chain is bound by those units. A CPU has
no such units: its kernels compute sines by multiply-adds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from harness import Row, environment, parser, save, start
from torch import Tensor

COPY_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}  # far beyond the caches
MATMUL_SIZES = {"cpu": (1024, 2048), "cuda": (8192,)}
CHAIN = 64  # exponentials a number, enough for its load and store not to matter
CHAIN_NUMBERS = 2**24
WARM_UP = 2


def seconds(run: Callable[[], object], device: str, rounds: int) -> float:
    """Fastest process CPU time on a CPU, median time between events on a GPU."""
    times = []
    for position in range(WARM_UP + rounds):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            elapsed = begin.elapsed_time(end) / 1e3
        else:
            started = time.process_time()
            run()
            elapsed = time.process_time() - started
        if position >= WARM_UP:
            times.append(elapsed)
    return statistics.median(times) if device == "cuda" else min(times)


def row(what: str, value: float, unit: str, device: str) -> Row:
    print(f"{what:<16} {value:10.1f} {unit}", flush=True)
    return {"op": "ceiling", "ceiling": what, "value": round(value, 2), "unit": unit, **environment(device)}


def copy_row(args: argparse.Namespace) -> Row:
    source = torch.rand(COPY_BYTES[args.device] // (64 if args.quick else 1) // 4, device=args.device)
    target = torch.empty_like(source)
    elapsed = seconds(lambda: target.copy_(source), args.device, args.rounds)
    return row("copy", 2 * 4 * source.numel() / elapsed / 1e9, "GB/s", args.device)  # read and written


def matmul_row(name: str, dtype: torch.dtype, precision: str, args: argparse.Namespace) -> Row:
    """The best of some sizes; `precision` is torch's float32 matmul precision."""
    best, before = 0.0, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        for size in (128,) if args.quick else MATMUL_SIZES[args.device]:
            a, b = (torch.randn(size, size, device=args.device).to(dtype) for _ in range(2))
            elapsed = seconds(lambda a=a, b=b: a @ b, args.device, args.rounds)
            best = max(best, 2 * size**3 / elapsed / 1e9)
    finally:
        torch.set_float32_matmul_precision(before)
    return row(f"matmul {name}", best, "GFLOP/s", args.device)


def chain(x: Tensor) -> Tensor:
    for _ in range(CHAIN):
        x = torch.exp(-x)
    return x


def special_function_row(args: argparse.Namespace) -> Row:
    x = torch.rand(CHAIN_NUMBERS // (4096 if args.quick else 1), device=args.device)
    run = torch.compile(chain)
    elapsed = seconds(lambda: run(x), args.device, args.rounds)
    return row("exp", CHAIN * x.numel() / elapsed / 1e9, "G/s", args.device)


def main() -> None:
    args = parser("ceilings").parse_args()
    start(args)
    rows = [copy_row(args), matmul_row("float32", torch.float32, "highest", args)]
    if args.device == "cuda":
        rows.append(matmul_row("tf32", torch.float32, "high", args))
    rows.append(matmul_row("bfloat16", torch.bfloat16, "highest", args))
    if args.device == "cuda":
        rows.append(matmul_row("float16", torch.float16, "highest", args))
    if args.device == "cuda" and not args.no_compile:
        rows.append(special_function_row(args))
    save(rows, args.out)


if __name__ == "__main__":
    main()
