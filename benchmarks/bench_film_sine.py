"""FiLM-sine layers (3 -> 128, 128 -> 128, 128 -> 64) at the points of CIPS-3D's training images, against the eager form
and torch.compile."""

from __future__ import annotations

import torch
from harness import Contender, compiled, in_float64, parser, record, start
from torch import Tensor

import cips3d_ext

GAMMA = {"gamma_scale": 15.0, "gamma_offset": 30.0}


def eager(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return torch.sin((15 * gamma + 30)[:, None] * (x @ weight.T + bias) + beta[:, None])


def main() -> None:
    args = parser("film_sine").parse_args()
    start(args)
    B, N = (2, 64) if args.quick else (4, 24 * 32 * 32) if args.device == "cpu" else (8, 24 * 64 * 64)
    for dtype in (torch.float32, torch.bfloat16):
        for I, O in ((3, 128), (128, 128), (128, 64)):
            tensors = (
                torch.randn(B, N, I).tanh(),
                (torch.rand(O, I) * 2 - 1) * (6 / I) ** 0.5 / 25,
                torch.randn(O) / 10,
                torch.randn(B, O) / 10,
                torch.randn(B, O),
            )
            inputs = [t.to(args.device, dtype).requires_grad_() for t in tensors]
            made = [
                Contender("eager", lambda inputs=inputs: eager(*inputs), inputs),
                Contender("ours", lambda inputs=inputs: cips3d_ext.film_sine(*inputs, **GAMMA, impl="fused"), inputs),
            ]
            if not args.no_compile:
                made.append(compiled(made[0]))
            case = {"B": B, "N": N, "I": I, "O": O, "dtype": str(dtype).removeprefix("torch.")}
            record(args, "film_sine", case, made, in_float64(eager, inputs))


if __name__ == "__main__":
    main()
