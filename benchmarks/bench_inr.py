"""CIPS-3D's INR, 18 modulated layers with skips and colour heads: ours, the references, and the official form (weights
modulated for every image, bmm), at the size of the released first training stage."""

from __future__ import annotations

import argparse
import copy

import torch
from harness import Contender, Row, compiled, parser, record, start
from official_form import inr

from cips3d.config import build, load_preset
from cips3d.models import Generator, GeneratorConfig

BATCH, PIXELS = 4, 1024


def run_case(dtype: torch.dtype, args: argparse.Namespace) -> None:
    config = build(GeneratorConfig, load_preset("generator", "tiny" if args.quick else "released"), "preset")
    torch.manual_seed(0)
    models = {impl: Generator(config, impl=impl).to(args.device, dtype) for impl in ("fused", "reference")}
    models["fused"].load_state_dict(models["reference"].state_dict())
    batch, pixels = (2, 16) if args.quick else (BATCH, PIXELS)
    features = torch.randn(batch, pixels, models["fused"].inr.blocks[0].first.in_features)
    style = torch.randn(batch, models["fused"].inr.blocks[0].first.style_dim)

    def contender(name: str, model: Generator) -> Contender:
        x, w = (tensor.to(model.aux_rgb.weight).requires_grad_() for tensor in (features, style))
        weights = [layer.weight for block in model.inr.blocks for layer in (block.first, block.second)]
        inputs = [x, w, *weights, *model.inr.to_rgb.parameters()]
        if name in ("reference", "ours"):
            return Contender(name, lambda: model.inr(x, model.inr.styles(w)), inputs)
        return Contender(name, lambda: inr(model, x, w), inputs)

    eager = [contender("official", models["reference"]), contender("reference", models["reference"])]
    made = [*eager, contender("ours", models["fused"])]
    if not args.no_compile:
        made += [compiled(one) for one in eager]
    case: Row = {"B": batch, "N": pixels, "dtype": str(dtype).removeprefix("torch.")}
    if args.quick:
        case["preset"] = "tiny"
    record(args, "inr", case, made, contender("float64", copy.deepcopy(models["reference"]).double()))


def main() -> None:
    args = parser("inr").parse_args()
    start(args)
    for dtype in (torch.float32, torch.bfloat16):
        run_case(dtype, args)


if __name__ == "__main__":
    main()
