"""The whole generator, forward and backward to every parameter: ours, the references, the official chain of operations.

`generator` rows compare them at the size of the released first training stage; they must agree, or this stops.
`generator_scaling` rows follow time and memory over resolution, samples a ray, images, and rays that carry gradient.
"""

from __future__ import annotations

import argparse
import copy
import re
from collections.abc import Callable
from pathlib import Path

import torch
from harness import Contender, Row, compiled, parser, record, start
from official_form import official_pixels
from torch import Tensor

from cips3d.config import build, load_preset
from cips3d.models import Generator, GeneratorConfig
from cips3d.render import Camera, Draws, camera_rays

RESOLUTION, SAMPLES, BATCH = 32, 12, 4
SWEEPS = {
    "samples": (6, 12, 24, 48),
    "batch": (1, 2, 4, 8),
    "resolution": (32, 64, 128, 256),
    "grad_rays": (4096, 16384, 65536),
}
QUICK_SWEEPS = {"samples": (4,), "batch": (2,), "resolution": (4, 8), "grad_rays": (16,)}
GRAD_RAYS_RESOLUTION = 256  # of the sweep over rays that carry gradient
OFFICIAL_BYTES_PER_RAY = 190_000  # what the official chain keeps for its backward pass with 12 + 12 samples, and some
SCALING_ROUNDS, SLOWEST_STEP_S = 3, 300.0  # a step of the largest takes a minute
BOTH = ("forward+backward",)
# Of images and gradients in float32. sample_pdf amplifies rounding, and leaky ReLUs near 0 change sign: eager gradients
# of the released sizes are off by 1 % of the largest entry as well.
AGREEMENT, GRADIENT_AGREEMENT = 2e-4, 5e-2
DENSITY_BIAS = 10.0  # fog: away from density 0, where the last sample's alpha jumps between 0 and 1 with the rounding


class Scene:
    """A generator with fixed weights, codes, cameras and draws, and its contenders."""

    def __init__(self, args: argparse.Namespace, case: Row) -> None:
        self.resolution, self.samples = case["resolution"], case["samples"]
        preset = "tiny" if args.quick else "released"
        config = build(GeneratorConfig, load_preset("generator", preset), f"preset {preset}")
        torch.manual_seed(0)
        models = {impl: Generator(config, impl=impl).to(args.device) for impl in ("fused", "reference")}
        with torch.no_grad():
            models["reference"].field.density.bias.add_(DENSITY_BIAS)
        models["fused"].load_state_dict(models["reference"].state_dict())
        self.ours, self.reference = models["fused"], models["reference"]
        self.grad_rays = case.get("grad_rays")
        batch, shape = case["batch"], (case["batch"], self.resolution**2, self.samples)
        self.codes = [torch.randn(batch, size) for size in (config.z_shape_dim, config.z_appearance_dim)]
        self.camera = Camera.sample(batch, generator=torch.Generator().manual_seed(0))
        self.jitter, self.u = torch.rand(shape), torch.rand(shape)
        self.permutation = torch.randperm(self.resolution**2)

    def values(self, model: Generator) -> tuple[list[Tensor], Camera, Draws]:
        """Codes, camera and draws on the device and in the dtype of a model."""
        to = model.aux_rgb.weight
        codes = [code.to(to) for code in self.codes]
        draws = Draws(jitter=self.jitter.to(to), u=self.u.to(to), permutation=self.permutation)
        return codes, self.camera.to(to.device, to.dtype), draws

    def rendered(self, model: Generator) -> Callable[[], Tensor]:
        codes, camera, draws = self.values(model)

        def run() -> Tensor:
            out = model.render(*codes, camera, self.resolution, self.samples, draws=draws, grad_rays=self.grad_rays)
            return torch.stack([out.image, out.aux_image]).flatten(-2).mT  # as official_pixels

        return run

    def official(self, model: Generator) -> Callable[[], Tensor]:
        codes, camera, draws = self.values(model)
        rays = camera_rays(camera, self.resolution)
        return lambda: official_pixels(model, *codes, rays, draws)

    def contenders(self, directions: tuple[str, ...]) -> list[Contender]:
        runs = {
            "official": (self.official(self.reference), self.reference),
            "reference": (self.rendered(self.reference), self.reference),
            "ours": (self.rendered(self.ours), self.ours),
        }
        return [Contender(name, run, list(model.parameters()), directions) for name, (run, model) in runs.items()]

    def in_float64(self) -> Contender:
        wide = copy.deepcopy(self.reference).double()
        return Contender("float64", self.official(wide), list(wide.parameters()))


def why_not_held(case: Row, device: str) -> str:
    """Why the official chain is not run: empty if the device has the memory that it takes."""
    needed = case["batch"] * case["resolution"] ** 2 * case["samples"] / SAMPLES * OFFICIAL_BYTES_PER_RAY
    if device == "cuda":
        there: float = torch.cuda.mem_get_info()[0]
    else:
        there = 1024 * float(re.findall(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())[0])
    return f"needs about {needed / 1e9:.0f} GB, {there / 1e9:.0f} GB are free" if needed > there else ""


def compare(args: argparse.Namespace) -> None:
    case: Row = {"resolution": RESOLUTION, "samples": SAMPLES, "batch": BATCH, "dtype": "float32"}
    if args.quick:
        case |= {"preset": "tiny", "resolution": 4, "samples": 4, "batch": 2}
    scene = Scene(args, case)
    made = scene.contenders(("forward", *BOTH))
    if not args.no_compile:
        made.append(compiled(made[0]))
    for row in record(args, "generator", case, made, scene.in_float64()):
        if row.get("error", 0.0) > AGREEMENT or row.get("gradient_error", 0.0) > GRADIENT_AGREEMENT:
            raise SystemExit(f"{row['contender']} is not the official image: {row}")


def sweep(args: argparse.Namespace) -> None:
    args.rounds = min(args.rounds, SCALING_ROUNDS)
    for varies, values in (QUICK_SWEEPS if args.quick else SWEEPS).items():
        for value in values:
            case: Row = {
                "varies": varies,
                "resolution": 4 if args.quick else RESOLUTION,
                "samples": SAMPLES,
                "batch": 1,
            }
            if varies == "grad_rays":
                case["resolution"] = 8 if args.quick else GRAD_RAYS_RESOLUTION
            case[varies] = value
            scene = Scene(args, case)
            official, _, ours = scene.contenders(BOTH)
            official.skipped = why_not_held(case, args.device)
            official.slowest_s = ours.slowest_s = SLOWEST_STEP_S
            with torch.no_grad():
                expected = ours.run()
            made = [ours] if varies == "grad_rays" else [official, ours]
            record(args, "generator_scaling", case, made, expected)


def main() -> None:
    args = parser("generator").parse_args()
    start(args)
    compare(args)
    sweep(args)


if __name__ == "__main__":
    main()
