"""Volume rendering of 32 features along rays of 24 samples, against public code's chain of small ops, also compiled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from harness import Contender, compiled, in_float64, parser, record, start
from torch import Tensor

import cips3d_ext


def eager(density: Tensor, features: Tensor, depths: Tensor) -> Tensor:
    """The integrator of the public CIPS-3D code: left rule, last interval 1e10, relu."""
    delta = F.pad(depths.diff(dim=-1), (0, 1), value=1e10)
    alpha = 1 - torch.exp(-delta * F.relu(density))
    transmittance = torch.cumprod(F.pad(1 - alpha + 1e-10, (1, 0), value=1.0), -1)[..., :-1]
    weights = alpha * transmittance
    return (weights[..., None] * features).sum(-2)


def ours(density: Tensor, features: Tensor, depths: Tensor) -> Tensor:
    feature = cips3d_ext.volume_render(density, features, depths, impl="fused").feature
    assert feature is not None
    return feature


def main() -> None:
    args = parser("volume_render").parse_args()
    start(args)
    rays = (64,) if args.quick else (16384,) if args.device == "cpu" else (32768, 262144)
    for R in rays:
        S, C = 24, 32
        depths = (0.88 + torch.rand(1, R, S).cumsum(-1) / 50).to(args.device)
        inputs = [(20 * torch.randn(1, R, S)), torch.randn(1, R, S, C)]
        inputs = [t.to(args.device).requires_grad_() for t in inputs]
        made = [
            Contender("eager", lambda inputs=inputs, depths=depths: eager(*inputs, depths), inputs),
            Contender("ours", lambda inputs=inputs, depths=depths: ours(*inputs, depths), inputs),
        ]
        if not args.no_compile:
            made.append(compiled(made[0]))
        case = {"R": R, "S": S, "C": C, "dtype": "float32"}
        record(args, "volume_render", case, made, in_float64(eager, [*inputs, depths]))


if __name__ == "__main__":
    main()
