"""Every op's fused kernels on the small sample calls, forward and backward, for a tool that watches the device:

compute-sanitizer --tool memcheck --kernel-name kns=cips3d python benchmarks/sanitizer_cases.py
"""

from __future__ import annotations

import argparse

import torch

from cips3d_ext.testing import CASES

DTYPES = (torch.float32, torch.float16)  # one path of each kind: float64 has float32's code, bfloat16 has float16's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--ops", nargs="*", help="these alone (default: all)")
    args = parser.parse_args()
    chosen = [case for case in CASES if not args.ops or case.op in args.ops]
    for case in chosen:
        for dtype in DTYPES:
            tensors = case.tensors(dtype, args.device, requires_grad=True)
            outputs = [output for output in case.run(tensors, "fused") if output.requires_grad]
            if outputs:
                torch.autograd.backward([output.sum() for output in outputs])
    if args.device == "cuda":
        torch.cuda.synchronize()
    print(f"{len(chosen) * len(DTYPES)} calls", flush=True)


if __name__ == "__main__":
    main()
