"""CIPS-3D's whole field (3 -> 128 -> 128 -> density, 128 -> 64 -> 32 features) at the points of its training images.

Against layer by layer in eager PyTorch, torch.compile of that, and our own kernels of single layers.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from harness import DIRECTIONS, Contender, compiled, in_float64, parser, record, start
from official_form import FAR, NEAR, WARP, Field, example_field, field_chain
from torch import Tensor

import cips3d_ext

MOST_CHECKED = 2**20  # points: the gradients of more in float64 would need more memory than a GPU has
GAMMA = {"gamma_scale": 15.0, "gamma_offset": 30.0}


def eager(points: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
    return field_chain(points, Field.of(flat))


def layer_kernels(points: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
    field, x = Field.of(flat), points * WARP
    *trunk, colour = zip([*field.layers, field.colour], field.gamma, field.beta, strict=True)
    for linear, gamma, beta in trunk:
        x = cips3d_ext.film_sine(x, *linear, gamma, beta, **GAMMA, impl="fused")
    linear, gamma, beta = colour
    features = F.linear(cips3d_ext.film_sine(x, *linear, gamma, beta, **GAMMA, impl="fused"), *field.feature)
    return features, F.linear(x, *field.density)[..., 0]


def ours(points: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
    field = Field.of(flat)._asdict()
    features, density = cips3d_ext.siren_field(points, **field, point_scale=WARP, **GAMMA, impl="fused")
    assert features is not None
    return features, density


def dtypes(device: str) -> tuple[torch.dtype, ...]:
    return (torch.float32, torch.bfloat16) if device == "cpu" else (torch.float32, torch.float16, torch.bfloat16)


def run_case(args: argparse.Namespace, B: int, N: int, dtype: torch.dtype) -> None:
    points = (torch.rand(B, N, 3) - 0.5) * (FAR - NEAR)
    inputs = [t.to(args.device, dtype).requires_grad_() for t in (points, *example_field(B))]
    forms = {"eager": eager, "ours, layer by layer": layer_kernels, "ours": ours}
    made = [Contender(name, lambda form=form: form(*inputs), inputs) for name, form in forms.items()]
    if not args.no_compile:
        made.append(compiled(made[0]))
    case = {"B": B, "N": N, "points": B * N, "dtype": str(dtype).removeprefix("torch.")}
    directions = DIRECTIONS if B * N <= MOST_CHECKED else ("forward",)
    record(args, "siren_field", case, made, in_float64(eager, inputs, directions))


def main() -> None:
    args = parser("siren_field").parse_args()
    start(args)
    on_gpu = args.device != "cpu"
    sizes = [(2, 64)] if args.quick else [(8, 98304), (4, 1572864)] if on_gpu else [(4, 24 * 32 * 32)]
    for dtype in dtypes(args.device):
        for B, N in sizes:
            run_case(args, B, N, dtype)


if __name__ == "__main__":
    main()
