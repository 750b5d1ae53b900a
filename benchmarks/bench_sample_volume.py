"""Features of points in VolumeGAN's feature volume (32^3, 32 channels, 32 x 32 rays of 24 samples), against grid_sample
and torch.compile of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from harness import Contender, compiled, in_float64, parser, record, start
from torch import Tensor

import cips3d_ext


def eager(volume: Tensor, points: Tensor) -> Tensor:
    features = F.grid_sample(volume, points[:, None, None].to(volume.dtype), "bilinear", "border", align_corners=True)
    return features[:, :, 0, 0].transpose(1, 2)


def main() -> None:
    args = parser("sample_volume").parse_args()
    start(args)
    B, C, D, N = (1, 5, 4, 50) if args.quick else (4, 32, 32, 24576)
    volume = torch.randn(B, C, D, D, D).to(args.device).requires_grad_()
    points = (2.2 * torch.rand(B, N, 3) - 1.1).to(args.device)
    options = {"align_corners": True, "padding": "border", "impl": "fused"}
    made = [
        Contender("eager", lambda: eager(volume, points), [volume]),
        Contender("ours", lambda: cips3d_ext.sample_volume(volume, points, **options), [volume]),
    ]
    if not args.no_compile:
        made.append(compiled(made[0]))
    case = {"B": B, "C": C, "D": D, "N": N, "dtype": "float32"}
    record(args, "sample_volume", case, made, in_float64(lambda v: eager(v, points), [volume]))


if __name__ == "__main__":
    main()
