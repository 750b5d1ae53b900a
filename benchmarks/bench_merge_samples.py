"""Merging 12 coarse and 12 fine samples of 32 features and a density, against cat, sort and gather, and torch.compile
of those."""

from __future__ import annotations

import torch
from harness import Contender, compiled, in_float64, parser, record, start
from torch import Tensor

import cips3d_ext


def eager(z_a: Tensor, z_b: Tensor, f_a: Tensor, f_b: Tensor) -> Tensor:
    _, order = torch.sort(torch.cat([z_a, z_b], -1), -1)
    return torch.gather(torch.cat([f_a, f_b], -2), -2, order[..., None].expand(-1, -1, f_a.shape[-1]))


def main() -> None:
    args = parser("merge_samples").parse_args()
    start(args)
    P, S, C = (64, 4, 5) if args.quick else (16384, 12, 33)
    z_a, z_b = (torch.rand(P, S).to(args.device) for _ in range(2))
    inputs = [torch.randn(P, S, C).to(args.device).requires_grad_() for _ in range(2)]
    made = [
        Contender("eager", lambda: eager(z_a, z_b, *inputs), inputs),
        Contender("ours", lambda: cips3d_ext.merge_samples(z_a, z_b, tuple(inputs), impl="fused")[1], inputs),
    ]
    if not args.no_compile:
        made.append(compiled(made[0]))
    case = {"P": P, "S": 2 * S, "C": C, "dtype": "float32"}
    record(args, "merge_samples", case, made, in_float64(eager, [z_a, z_b, *inputs]))


if __name__ == "__main__":
    main()
