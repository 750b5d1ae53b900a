"""ModFC against the forms that public code uses: grouped convolution (StyleGAN2), bmm over materialised weights
(CIPS-3D), scaling of inputs and outputs, torch.compile of each, and ours.

The row set `paper_modfc` repeats the paper's comparison in iterations per second (batch 4096 of one row, 512 -> 512:
27.78 bmm against 15.18 grouped convolution there, on a V100)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from harness import Contender, compiled, in_float64, measure, parser, record, save, start
from torch import Tensor

import cips3d_ext

EPS = 1e-8
SLOPE = 0.2
MEMORY_LIMIT_GB = 14.0  # of materialised weights and their temporaries; beyond it a contender is recorded as not run


def modulated_weights(weight: Tensor, style: Tensor) -> Tensor:
    """[B,O,I], demodulated."""
    weights = weight * (style + 1)[:, None]
    return weights * torch.rsqrt(weights.square().sum(-1, keepdim=True) + EPS)


def grouped_conv(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    B, N, I = x.shape
    weights = modulated_weights(weight, style).reshape(-1, I, 1)
    y = F.conv1d(x.transpose(1, 2).reshape(1, B * I, N), weights, groups=B)
    return F.leaky_relu(y.reshape(B, -1, N).transpose(1, 2), SLOPE)


def bmm(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    return F.leaky_relu(torch.bmm(x, modulated_weights(weight, style).mT), SLOPE)


def scaled(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    modulation = style + 1
    demodulation = torch.rsqrt(modulation.square() @ weight.square().T + EPS)
    return F.leaky_relu((x * modulation[:, None]) @ weight.T * demodulation[:, None], SLOPE)


def ours(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    return cips3d_ext.modfc(x, weight, style, style_offset=1.0, activation="lrelu", alpha=SLOPE, eps=EPS, impl="fused")


def contenders(B: int, N: int, I: int, O: int, dtype: torch.dtype, args: argparse.Namespace) -> list[Contender]:
    x, weight = torch.randn(B, N, I), torch.randn(O, I) / I**0.5
    style = 0.3 * torch.randn(B, I)
    inputs = [t.to(args.device, dtype).requires_grad_() for t in (x, weight, style)]
    weights_gb = B * O * I * inputs[0].element_size() / 2**30

    def make(name: str, form: Callable[..., Tensor], copies: float) -> Contender:
        needed = copies * weights_gb
        skipped = f"needs about {needed:.0f} GB" if needed > MEMORY_LIMIT_GB and args.device == "cpu" else ""
        return Contender(name, lambda: form(*inputs), inputs, skipped=skipped)

    eager = [make("grouped conv", grouped_conv, 6), make("bmm", bmm, 6), make("scaled", scaled, 0)]
    made = [*eager, make("ours", ours, 0)]
    return made if args.no_compile else made + [compiled(contender) for contender in eager]


def run_case(B: int, N: int, width: int, dtype: torch.dtype, args: argparse.Namespace) -> None:
    made = contenders(B, N, width, width, dtype, args)
    case = {"B": B, "N": N, "I": width, "O": width, "dtype": str(dtype).removeprefix("torch.")}
    record(args, "modfc", case, made, in_float64(scaled, made[0].inputs))


def paper_set(args: argparse.Namespace, B: int, width: int) -> list[dict[str, Any]]:
    """The paper's own comparison, forward, in iterations per second."""
    made = contenders(B, 1, width, width, torch.float32, args)
    for contender in made:
        contender.directions = ("forward",)
        needed = 3 * B * width * width * 4 / 2**30 if contender.name in ("grouped conv", "bmm") else 0
        if contender.name in ("grouped conv", "bmm"):  # forward alone holds fewer copies
            contender.skipped = f"needs about {needed:.0f} GB" if needed > MEMORY_LIMIT_GB else ""
    case = {"set": "paper_modfc", "B": B, "N": 1, "I": width, "O": width, "dtype": "float32"}
    rows = measure("modfc", case, made, in_float64(scaled, made[0].inputs), max(3, args.rounds // 3))
    for row in rows:
        if "cpu_ms" in row:
            row["iterations_per_second"] = round(1e3 / row["wall_ms"], 2)
    return rows


def main() -> None:
    args = parser("modfc").parse_args()
    start(args)
    sizes = [(4096, 1), (512, 16), (8, 4096)] + ([(4, 65536)] if args.device != "cpu" else [])
    width = 512
    if args.quick:
        sizes, width = [(64, 1), (16, 4), (2, 64)], 64
    for dtype in (torch.float32, torch.bfloat16):
        for B, N in sizes:
            run_case(B, N, width, dtype, args)
    save(paper_set(args, 64 if args.quick else 4096, width), args.out)


if __name__ == "__main__":
    main()
