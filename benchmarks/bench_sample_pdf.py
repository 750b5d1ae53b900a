"""Importance sampling of 12 depths a ray from 10 weights, against the eager chain of public code and torch.compile."""

from __future__ import annotations

import torch
from harness import Contender, compiled, in_float64, parser, record, start
from torch import Tensor

import cips3d_ext

EPS = 1e-5


def eager(bins: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """sample_pdf as pi-GAN, CIPS-3D and VolumeGAN have it."""
    weights = weights + EPS
    cdf = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)
    index = torch.searchsorted(cdf, u)
    below, above = (index - 1).clamp(min=0), index.clamp(max=weights.shape[1])
    step = cdf.gather(1, above) - cdf.gather(1, below)
    step = torch.where(step < EPS, 1.0, step)
    low, high = bins.gather(1, below), bins.gather(1, above)
    return low + (u - cdf.gather(1, below)) / step * (high - low)


def main() -> None:
    args = parser("sample_pdf").parse_args()
    start(args)
    P = 64 if args.quick else 32768
    bins = (0.88 + torch.rand(P, 11).cumsum(-1) / 50).to(args.device)
    weights, u = torch.rand(P, 10).to(args.device), torch.rand(P, 12).to(args.device)
    forward = ("forward",)
    made = [
        Contender("eager", lambda: eager(bins, weights, u), [], forward),
        Contender("ours", lambda: cips3d_ext.sample_pdf(bins, weights, 12, u=u, eps=EPS, impl="fused"), [], forward),
    ]
    if not args.no_compile:
        made.append(compiled(made[0]))
    case = {"P": P, "bins": 11, "n": 12, "dtype": "float32"}
    record(args, "sample_pdf", case, made, in_float64(eager, [bins, weights, u]))


if __name__ == "__main__":
    main()
