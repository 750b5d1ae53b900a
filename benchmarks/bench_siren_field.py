"""Whole fields: CIPS-3D's (3 -> 128 -> 128 -> density, 128 -> 64 -> 32 features) at the points of its training images,
and pi-GAN's (eight layers of 256, a colour layer that takes view directions) at fewer.

Against layer by layer in eager PyTorch, torch.compile of that, and our own kernels of single layers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from field_shapes import FIELDS
from harness import DIRECTIONS, Contender, compiled, in_float64, parser, record, start
from official_form import FAR, NEAR, WARP, Field, example_field, field_chain, with_directions
from torch import Tensor

import cips3d_ext

MOST_CHECKED = 2**20  # points: the gradients of more in float64 would need more memory than a GPU has
SAMPLES = 24  # of a ray, all of one direction
GAMMA = {"gamma_scale": 15.0, "gamma_offset": 30.0}


def split(flat: Sequence[Tensor]) -> tuple[Field, Tensor | None]:
    """The field and, where there is one more tensor than a field has, the view directions."""
    return (Field.of(flat[:-1]), flat[-1]) if len(flat) % 4 else (Field.of(flat), None)


def eager(points: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
    return field_chain(points, *split(flat))


def layer_kernels(points: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
    (field, directions), x = split(flat), points * WARP
    *trunk, colour = zip([*field.layers, field.colour], field.gamma, field.beta, strict=True)
    for linear, gamma, beta in trunk:
        x = cips3d_ext.film_sine(x, *linear, gamma, beta, **GAMMA, impl="fused")
    linear, gamma, beta = colour
    seen = x if directions is None else with_directions(x, directions)
    features = F.linear(cips3d_ext.film_sine(seen, *linear, gamma, beta, **GAMMA, impl="fused"), *field.feature)
    return features, F.linear(x, *field.density)[..., 0]


def ours(points: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
    field, directions = split(flat)
    options = {"directions": directions, "point_scale": WARP, **GAMMA, "impl": "fused"}
    features, density = cips3d_ext.siren_field(points, **field._asdict(), **options)
    assert features is not None
    return features, density


def dtypes(device: str) -> tuple[torch.dtype, ...]:
    return (torch.float32, torch.bfloat16) if device == "cpu" else (torch.float32, torch.float16, torch.bfloat16)


def run_case(args: argparse.Namespace, name: str, B: int, N: int, dtype: torch.dtype) -> None:
    shape = FIELDS[name]
    tensors = [(torch.rand(B, N, 3) - 0.5) * (FAR - NEAR), *example_field(B, shape)]
    if shape.view_directions:
        tensors.append(F.normalize(torch.randn(B, N // SAMPLES, 3), dim=-1))
    inputs = [t.to(args.device, dtype).requires_grad_() for t in tensors]
    forms = {"eager": eager, "ours, layer by layer": layer_kernels, "ours": ours}
    made = [Contender(name, lambda form=form: form(*inputs), inputs) for name, form in forms.items()]
    if not args.no_compile:
        made.append(compiled(made[0]))
    case = {"field": name, "B": B, "N": N, "points": B * N, "dtype": str(dtype).removeprefix("torch.")}
    directions = DIRECTIONS if B * N <= MOST_CHECKED else ("forward",)
    record(args, "siren_field", case, made, in_float64(eager, inputs, directions))


def main() -> None:
    args = parser("siren_field").parse_args()
    start(args)
    on_gpu = args.device != "cpu"
    large = [("cips3d", 8, 98304), ("cips3d", 4, 1572864), ("pigan", 4, 98304)]
    medium = [("cips3d", 4, 24 * 32 * 32), ("pigan", 2, 16 * 16 * SAMPLES)]
    for dtype in dtypes(args.device):
        for name, B, N in large if on_gpu else medium:
            run_case(args, name, B, 2 * SAMPLES if args.quick else N, dtype)


if __name__ == "__main__":
    main()
