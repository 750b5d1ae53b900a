"""Where the time of a training step goes: data, rendering, discriminator, R1, generator, optimisers and average; with
our kernels and with the references, in the first stage of the released model (4 images, a GPU's share there)."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable

import torch
from harness import Contender, Prepared, Row, environment, line_of, parser, save, start
from memory import memory_mb
from torch import Tensor

from cips3d.config.training import load_training
from cips3d.data import TrainingBatches, open_dataset
from cips3d.training.steps import Judge, discriminator_step, generator_step
from cips3d.training.trainer import Trainer

IMPLS = {"reference": "reference", "ours": "fused"}
IMAGES = 64  # of synthetic heads: enough to draw batches from
BATCH = 4


def parts(trainer: Trainer) -> dict[str, Callable[[], object]]:
    """The parts of a step by name; "discriminator, R1" less "discriminator" is the penalty.

    Those two and "generator" have their optimiser's step in them, and "generator" its rendering.
    """
    config = trainer.config
    judge = Judge(use_aux=config.loss.use_aux)
    codes = trainer.sample_inputs()
    poses = trainer.discriminator.labels(codes.camera)  # for a discriminator that is told them, of real images too
    with torch.no_grad():
        rendered = trainer.render(None, codes)
        fake = trainer.discriminator.fakes(rendered, judge.use_aux)
    real = trainer.discriminator.reals(next(trainer.images).to(trainer.device), rendered, judge.use_aux, shown=0)

    def discriminate(r1_weight: float) -> object:
        clip = config.optimizer.clip_norm
        network, optimizer = trainer.discriminator, trainer.d_optimizer
        told = {"labels": (poses, poses)}
        return discriminator_step(network, optimizer, real, fake, judge, r1_weight=r1_weight, clip_norm=clip, **told)

    def generate() -> object:
        images = trainer.discriminator.fakes(trainer.render(config.render.grad_rays, codes), judge.use_aux)
        clip = config.optimizer.clip_norm
        return generator_step(
            trainer.generator, trainer.discriminator, trainer.g_optimizer, images, judge, clip_norm=clip, labels=poses
        )

    @torch.no_grad()
    def render() -> object:
        return trainer.render(grad_rays=None)

    def update() -> object:  # with the gradients that the parts before it left
        trainer.d_optimizer.step()
        trainer.g_optimizer.step()
        return trainer.ema.update(trainer.generator, config.optimizer.ema_start + 1)

    return {
        "data": lambda: next(trainer.images).to(trainer.device),
        "render without gradient": render,
        "discriminator": lambda: discriminate(0.0),
        "discriminator, R1": lambda: discriminate(config.loss.r1_weight),
        "render with gradient": lambda: trainer.render(config.render.grad_rays),
        "generator": generate,
        "both optimisers, average": update,
        "whole step": trainer.iterate,
    }


def prepare(args: argparse.Namespace, preset: str, cache: str) -> list[Prepared]:
    config = load_training(preset, [f"optimizer.batch_size={BATCH}"])
    result = []
    for name, impl in IMPLS.items():
        dataset = open_dataset("synthetic-heads", config.schedule.resolution, size=IMAGES, cache_dir=cache)
        trainer = Trainer(config, TrainingBatches(dataset, BATCH, seed=0), torch.device(args.device), impl)
        for part, run in parts(trainer).items():
            case: Row = {"preset": preset, "batch": BATCH, "part": part}
            row = {"op": "train_step", **case, "contender": name, "direction": "step", **environment(args.device)}

            def step(run: Callable[[], object] = run) -> Tensor:
                run()
                return torch.empty(0)

            one = Prepared(Contender(name, step, [], ("step",)), "step", args.device, [], row)
            row["peak_mb"] = round(memory_mb(one.step, args.device)[0], 1)
            result.append(one)
    return result


def main() -> None:
    options = parser("train_step")
    options.add_argument("--presets", nargs="+", help="training presets (default: released_ffhq_32, --quick: tiny)")
    args = options.parse_args()
    start(args)
    presets = args.presets or ["tiny" if args.quick else "released_ffhq_32"]
    with tempfile.TemporaryDirectory() as cache:
        prepared = [one for preset in presets for one in prepare(args, preset, cache)]
        for _ in range(args.rounds):
            for one in prepared:
                one.time_once()
    for one in prepared:
        one.finish()
        print(line_of(one.row, {"part": one.row["part"]}), flush=True)
    save([one.row for one in prepared], args.out)


if __name__ == "__main__":
    main()
