"""Generators of all models at their authors' sizes, forward and backward: references and our kernels.

What it takes to train them: `bench_train_step.py --presets ...`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from harness import Contender, Row, compiled, parser, record, start
from torch import Tensor

from cips3d.config.training import TrainingConfig, load_training
from cips3d.models.base import BaseGenerator
from cips3d.models.registry import make_generator
from cips3d.render import Camera, Draws

DENSITY_BIAS = 10.0  # fog: away from density 0, where the last sample's alpha jumps between 0 and 1 with the rounding


class Subject(NamedTuple):
    """A training preset, whose generator and sampling are measured, at a resolution; the tiny one for --quick."""

    preset: str
    resolution: int
    tiny: str


ROUNDING = 1e-10  # a float64 gradient so much smaller than the largest is none
SLOWEST_S = 60.0  # EG3D's backward at 512 x 512 takes half a minute on one core
SUBJECTS = {
    "cips3d": Subject("released_ffhq_32", 32, "tiny"),
    "pigan": Subject("pigan_celeba", 32, "pigan_tiny"),
    "volumegan": Subject("volumegan_ffhq256", 256, "volumegan_tiny"),
    "eg3d": Subject("eg3d_ffhq512_128", 512, "eg3d_tiny"),
}


class Scene:
    """Fixed codes and poses, nothing random."""

    def __init__(self, config: TrainingConfig, case: Row) -> None:
        self.case, self.hierarchical, pose = case, config.render.hierarchical, config.camera
        batch, dims = case["batch"], (config.generator.z_shape_dim, config.generator.z_appearance_dim)
        self.codes = [torch.randn(batch, dim) for dim in dims]
        yaws = pose.yaw_mean + pose.yaw_std * torch.linspace(-1, 1, batch)
        self.camera = Camera.from_angles(yaws, pose.pitch_mean, pose.fov_deg)

    def rendered(self, model: BaseGenerator) -> Callable[[], list[Tensor]]:
        """The image and the auxiliary one."""
        to = next(model.parameters())
        codes, camera = [code.to(to) for code in self.codes], self.camera.to(to.device, to.dtype)
        resolution, samples = self.case["resolution"], self.case["samples"]
        draws = Draws.none(samples=samples)

        def run() -> list[Tensor]:
            options = {"hierarchical": self.hierarchical, "draws": draws, "pose": camera}
            out = model.render(*codes, camera, resolution, samples, **options)
            return [out.image, out.aux_image]

        return run


def names_with_gradients(model: BaseGenerator, outputs: list[Tensor]) -> list[str]:
    """Parameters that the outputs depend on: some models have others, or biases that a normalisation takes away."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = torch.stack([output.sum() for output in outputs]).sum()
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    largest = {name: g.abs().max().item() for name, g in zip(named, found, strict=True) if g is not None}
    return [name for name, size in largest.items() if size > ROUNDING * max(largest.values())]


def measure(args: argparse.Namespace, name: str) -> None:
    subject = SUBJECTS[name]
    config = load_training(subject.tiny if args.quick else subject.preset)
    case: Row = {
        "model": name,
        "resolution": config.schedule.resolution if args.quick else subject.resolution,
        "samples": config.render.samples_per_ray,
        "batch": args.batch,
    }
    torch.manual_seed(0)
    scene = Scene(config, case)
    impls = {"ours": "auto", "reference": "reference"}
    models = {kind: make_generator(config.generator, impl) for kind, impl in impls.items()}
    models["reference"].adjust_init(DENSITY_BIAS, 1.0, 1.0)
    models["ours"].load_state_dict(models["reference"].state_dict())
    wide = copy.deepcopy(models["reference"]).double()
    exact = scene.rendered(wide)
    names = names_with_gradients(wide, exact())

    def contender(kind: str, model: BaseGenerator) -> Contender:
        inputs = [model.get_parameter(name) for name in names]
        return Contender(kind, scene.rendered(model), inputs, slowest_s=SLOWEST_S)

    made = [contender(kind, model.to(args.device)) for kind, model in models.items()]
    if not args.no_compile:
        made.append(compiled(made[-1]))
    record(args, "models", case, made, contender("float64", wide))


def main() -> None:
    options = parser("models")
    options.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="which of them")
    options.add_argument("--batch", type=int, default=1, help="images at a time")
    args = options.parse_args()
    start(args)
    for name in args.models:
        measure(args, name)


if __name__ == "__main__":
    main()
