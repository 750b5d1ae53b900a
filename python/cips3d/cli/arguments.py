"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cips3d.inversion.latents import load_latents
from cips3d.training.model_file import SHIPPED
from cips3d.training.trained import TrainedModel, load_model

SEEDS = 2**63  # torch's generators take 64-bit seeds


def add_model_arguments(
    parser: argparse.ArgumentParser,
    resolution_help: str = "side in pixels (default: that of the training)",
    seed: bool = True,
) -> None:
    """Model and picture; `seed` False: for commands that name each head by a seed of its own."""
    add_source_arguments(parser)
    add_picture_arguments(parser, resolution_help, seed)


def add_picture_arguments(parser: argparse.ArgumentParser, resolution_help: str, seed: bool = True) -> None:
    if seed:
        parser.add_argument("--seed", type=int, default=0, help="which heads: equal seeds give equal heads (default 0)")
    parser.add_argument("--psi", type=float, default=1.0, help="truncation: 1 all variety, towards 0 the mean head")
    parser.add_argument("--resolution", type=int, help=resolution_help)
    add_device_arguments(parser)


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run-dir", type=Path, help="folder of a training run; its averaged weights are used")
    source.add_argument(
        "--checkpoint",
        type=Path,
        help="a .safetensors file of `cips3d export`, a run's latest.pt, or an official generator state dict "
        "(G_ema.pth); without it and --run-dir: the synthetic heads that ship with the package",
    )


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default=default_device(), help="cpu, cuda, cuda:1, ... (default %(default)s)")
    parser.add_argument(
        "--impl",
        choices=("auto", "fused", "reference"),
        default="auto",
        help="kernels: auto falls back to plain PyTorch, fused refuses to (default auto)",
    )


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """Raises ValueError, before any work is done, for a device that this torch cannot use."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: cuda with a torch built without it
        raise ValueError(f"--device {device}: {error}") from error


def model_of(args: argparse.Namespace) -> TrainedModel:
    """The model that the arguments of `add_model_arguments` name."""
    check_picture_arguments(args)
    return load_model(source_of(args), args.device, args.impl)


def check_picture_arguments(args: argparse.Namespace) -> None:
    if args.resolution is not None and args.resolution < 1:
        raise ValueError(f"--resolution must be at least 1, got {args.resolution}")
    if "seed" in args:
        check_seeds("--seed", args.seed)
    check_psis("--psi", args.psi)


def check_psis(name: str, *psis: float) -> None:
    for psi in psis:
        if not math.isfinite(psi):
            raise ValueError(f"{name} must be a number, got {psi}")


def check_seeds(name: str, *seeds: int) -> None:
    for seed in seeds:
        if not -SEEDS <= seed < SEEDS:
            raise ValueError(f"{name} must be in -2^63 .. 2^63 - 1, got {seed}")


def codes_of(model: TrainedModel, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The codes [K,Z], [K,Z'] of one head for each seed: the first one that other commands make of it."""
    shape, appearance = zip(*(model.codes(1, seed) for seed in seeds), strict=True)
    return torch.cat(shape), torch.cat(appearance)


def check_appearance(model: TrainedModel, what: str, space: str = "w") -> None:
    """Raises ValueError where shape and appearance have no styles (w), or no codes (z), of their own."""
    config = model.generator.config
    if not (config.z_appearance_dim if space == "z" else config.appearance_style_dim):
        kind = "code" if space == "z" else "style"
        raise ValueError(
            f"{what}: in {config.model} one {kind} gives shape and appearance together; `cips3d interpolate` walks "
            "between whole heads"
        )


def picture_path(out: Path | None, default: str) -> Path:
    """Where a picture goes; refuses names that are no .png before any work is done."""
    path = out or Path(default)
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, got {path.name}")
    return path


def add_latent_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--latent", type=Path, help="latents.safetensors of `cips3d invert`: that head instead of the seed's"
    )


def styles_of(args: argparse.Namespace, model: TrainedModel, count: int, psi: float) -> tuple[Tensor, Tensor]:
    """Styles [count,W], [count,W'] with truncation psi: of the seed's heads, or of one saved head `count` times."""
    if args.latent is None:
        return model.styles(count, args.seed, psi)
    latents = load_latents(args.latent, model)
    shape, appearance = model.generator.truncate(latents.w_shape, latents.w_appearance, psi)
    return shape.expand(count, -1), appearance.expand(count, -1)


def source_of(args: argparse.Namespace) -> Path:
    """Where the model is: as told, or in the package."""
    return args.run_dir or args.checkpoint or SHIPPED


def describe(args: argparse.Namespace, *positional: str) -> str:
    """What made a file, for its metadata: the command and its arguments that are set."""
    given = {name: value for name, value in vars(args).items() if name not in ("command", "out") and value is not None}
    first = [_word(given.pop(name)) for name in positional if name in given]
    words = (f"--{name.replace('_', '-')} {_word(value)}" for name, value in given.items())
    return " ".join(["cips3d", args.command, *first, *words])


def _word(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
