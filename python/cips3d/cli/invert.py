"""Find the head and the pose of a picture, and show that head at new poses; or measure how well that goes.

cips3d invert face.jpg --run-dir runs/heads --out inverted
cips3d invert face.jpg --run-dir runs/heads --pose-deg 0 0 --tune-steps 50
cips3d render --run-dir runs/heads --latent inverted/latents.safetensors --panels inr depth --out turn.mp4
cips3d invert --data synthetic-heads --count 8 --run-dir runs/heads     held-out heads, whose other sides are known
cips3d invert --data generated --count 8 --run-dir runs/heads           the model's own pictures

Writes into the folder: inverted.png (the picture, its reconstruction, new poses), turn.mp4, latents.safetensors for
--latent of other commands, report.json, and with --tune-steps model.safetensors for their --checkpoint. Of a picture
that is not square the middle is taken. With --data: inverted.png (a head a row: the picture, its reconstruction, new
views, the true new views) and report.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cips3d.cli.arguments import add_device_arguments, add_source_arguments, check_seeds, describe, source_of
from cips3d.cli.render import PITCH_SPREADS, YAW_SPREADS
from cips3d.data import image_grid, to_float
from cips3d.data.images import decode_image
from cips3d.files import written_whole
from cips3d.inversion.evaluate import MEASURES, SOURCES, evaluate, summary
from cips3d.inversion.latents import Latents, save_latents
from cips3d.inversion.optimise import Inversion, InversionSettings, invert
from cips3d.inversion.space import SPACES
from cips3d.render.trajectories import camera_at
from cips3d.render.video import save_png, write_video
from cips3d.training.trained import TrainedModel, load_model

NEW_POSES = 5  # yaws in inverted.png
FRAMES, FPS = 48, 24  # of turn.mp4
DEFAULTS = InversionSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="picture of one face, as in the training")
    target.add_argument("--data", choices=SOURCES, help="measure on pictures whose truth is known instead")
    add_source_arguments(parser)
    parser.add_argument("--out", type=Path, help="folder to write into (default inverted-NAME-seedSEED)")
    parser.add_argument("--count", type=int, default=8, help="pictures of --data (default 8)")
    parser.add_argument(
        "--space",
        choices=SPACES,
        default=DEFAULTS.space,
        help="w: styles near those of random codes, which match more closely; z: heads that a code gives (default w)",
    )
    parser.add_argument(
        "--pose-deg",
        nargs=2,
        type=float,
        metavar=("YAW", "PITCH"),
        help="the camera's angles away from the mean pose, in degrees (default: found too)",
    )
    parser.add_argument(
        "--starts", type=int, default=DEFAULTS.starts, help=f"yaws to begin at (default {DEFAULTS.starts})"
    )
    parser.add_argument("--steps", type=int, default=DEFAULTS.steps, help=f"at most (default {DEFAULTS.steps})")
    parser.add_argument(
        "--tune-steps", type=int, default=0, help="then move the generator's own weights for so many steps (default 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the starts in z and of the heads of --data (default 0)")
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> None:
    check_seeds("--seed", args.seed)
    if args.count < 1:
        raise ValueError(f"--count must be at least 1, got {args.count}")
    if args.data and args.pose_deg:
        raise ValueError("--pose-deg is for one IMAGE; the pictures of --data have poses of their own")
    settings = InversionSettings(
        space=args.space, starts=args.starts, steps=args.steps, tune_steps=args.tune_steps, seed=args.seed
    )
    model = load_model(source_of(args), args.device, args.impl)
    if args.pose_deg:
        pose = model.camera
        yaw, pitch = map(math.radians, args.pose_deg)
        settings = dataclasses.replace(settings, pose=(pose.yaw_mean + yaw, pose.pitch_mean + pitch))
    out = args.out or Path(f"inverted-{args.data or args.image.stem}-seed{args.seed}")
    if args.data:
        _measure(model, args, settings, out)
    else:
        _invert(model, args, settings, out)


def _invert(model: TrainedModel, args: argparse.Namespace, settings: InversionSettings, out: Path) -> None:
    target = to_float(decode_image(args.image.read_bytes(), str(args.image), model.resolution))
    out.mkdir(parents=True, exist_ok=True)
    found, comment = invert(model, target, settings), describe(args, "image")
    pitch, yaw = found.camera.pitch_yaw.unbind(1)
    poses = found.model.turned(found.styles, model.yaws(NEW_POSES, YAW_SPREADS))
    save_png(image_grid(torch.cat([target[None], found.image[None], poses]), 2 + NEW_POSES), _png(out), comment)
    save_latents(out / "latents.safetensors", Latents(*found.styles, yaw, pitch), comment)
    if args.tune_steps:
        found.model.save(out / "model.safetensors", comment)
    report = {
        "psnr": found.psnr,
        "l1": found.l1,
        "yaw": yaw.item(),
        "pitch": pitch.item(),
        "seed": args.seed,
        "command": comment,
    }
    _write_report(out, report)
    write_video(_turning(found), out / "turn.mp4", FPS, comment)
    away = math.degrees(yaw.item() - model.camera.yaw_mean), math.degrees(pitch.item() - model.camera.pitch_mean)
    print(f"{out}: PSNR {found.psnr:.1f} dB, L1 {found.l1:.3f}, yaw {away[0]:+.1f}, pitch {away[1]:+.1f} degrees")


def _turning(found: Inversion) -> Iterator[Tensor]:
    """Frames [3,S,S] of the head on the circle that `cips3d render` goes."""
    swing = found.model.swing(YAW_SPREADS, PITCH_SPREADS)
    for frame in tqdm(range(FRAMES), desc="frames", unit="frame"):
        yield found.model.style_views(*found.styles, camera_at("circle", swing, frame, FRAMES))["inr"][0]


def _measure(model: TrainedModel, args: argparse.Namespace, settings: InversionSettings, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows, results = zip(*evaluate(model, args.data, args.count, settings), strict=True)
    comment = describe(args)
    save_png(image_grid(torch.cat(rows), len(rows[0])), _png(out), comment)
    table = summary(list(results))
    images = [dataclasses.asdict(result) for result in results]
    _write_report(out, {"summary": table, "images": images, "seed": args.seed, "command": comment})
    columns = list(table[MEASURES[0]])
    print(f"{'':<16}" + "".join(f"{name:>10}" for name in columns))
    for name in MEASURES:
        print(f"{name:<16}" + "".join(f"{table[name][column]:>10.2f}" for column in columns))
    print(out)


def _png(out: Path) -> Path:
    return out / "inverted.png"


def _write_report(out: Path, report: dict[str, Any]) -> None:
    with written_whole(out / "report.json") as file:
        file.write((json.dumps(report, indent=1) + "\n").encode())
