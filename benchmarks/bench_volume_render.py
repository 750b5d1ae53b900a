"""Volume rendering of 32 features along rays of 24 samples, against public code's chain of small ops, also compiled."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from harness import Contender, compiled, in_float64, parser, record, start, why_absent
from torch import Tensor

import cips3d_ext

LAST_DELTA = 1e10


def eager(density: Tensor, features: Tensor, depths: Tensor) -> Tensor:
    """The integrator of the public CIPS-3D code: left rule, last interval 1e10, relu."""
    delta = F.pad(depths.diff(dim=-1), (0, 1), value=LAST_DELTA)
    alpha = 1 - torch.exp(-delta * F.relu(density))
    transmittance = torch.cumprod(F.pad(1 - alpha + 1e-10, (1, 0), value=1.0), -1)[..., :-1]
    weights = alpha * transmittance
    return (weights[..., None] * features).sum(-2)


def ours(density: Tensor, features: Tensor, depths: Tensor) -> Tensor:
    feature = cips3d_ext.volume_render(density, features, depths, impl="fused").feature
    assert feature is not None
    return feature


def nerfacc(density: Tensor, features: Tensor, depths: Tensor) -> Tensor:
    """The same sum by nerfacc's kernels for rays with equally many samples."""
    import nerfacc as library

    ends = torch.cat([depths[..., 1:], depths[..., -1:] + LAST_DELTA], -1)[0]
    weights = library.render_weight_from_density(depths[0], ends, F.relu(density[0]))[0]
    return library.accumulate_along_rays(weights, features[0])[None]


def run_case(args: argparse.Namespace, R: int) -> None:
    S, C = 24, 32
    depths = (0.88 + torch.rand(1, R, S).cumsum(-1) / 50).to(args.device)
    inputs = [t.to(args.device).requires_grad_() for t in (20 * torch.randn(1, R, S), torch.randn(1, R, S, C))]
    made = [
        Contender("eager", lambda: eager(*inputs, depths), inputs),
        Contender("ours", lambda: ours(*inputs, depths), inputs),
    ]
    if args.device == "cuda":
        made.append(Contender("nerfacc", lambda: nerfacc(*inputs, depths), inputs, skipped=why_absent("nerfacc")))
    if not args.no_compile:
        made.append(compiled(made[0]))
    case = {"R": R, "S": S, "C": C, "dtype": "float32"}
    record(args, "volume_render", case, made, in_float64(eager, [*inputs, depths]))


def main() -> None:
    args = parser("volume_render").parse_args()
    start(args)
    for R in (64,) if args.quick else (16384,) if args.device == "cpu" else (32768, 262144):
        run_case(args, R)


if __name__ == "__main__":
    main()
