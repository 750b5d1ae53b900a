"""Write a video of heads that turn from side to side, as .mp4 or .gif.

cips3d render --run-dir runs/first --out turn.mp4
cips3d render --checkpoint G_ema.pth --heads 4 --resolution 512 --frames 90 --out heads.mp4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from cips3d.cli.arguments import add_model_arguments, model_of
from cips3d.render.video import check_format, write_video
from cips3d.training.trained import swing

YAW_SPREADS = 1.5  # half-axes of the swing, in standard deviations of the training poses
PITCH_SPREADS = 0.75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("turntable.mp4"), help="video to write, .mp4 or .gif (default turntable.mp4)"
    )
    parser.add_argument("--heads", type=int, default=1, help="heads side by side (default 1)")
    parser.add_argument("--frames", type=int, default=48, help="pictures of one closed swing (default 48)")
    parser.add_argument("--fps", type=int, default=24, help="pictures a second (default 24)")


def run(args: argparse.Namespace) -> None:
    for name in ("heads", "frames", "fps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    check_format(args.out)  # before all the frames are rendered
    model = model_of(args)
    z_shape, z_appearance = model.codes(args.heads, args.seed)
    pose = model.camera
    yaws, pitches = swing(args.frames, YAW_SPREADS * pose.yaw_std, PITCH_SPREADS * pose.pitch_std)
    frames = []
    for yaw, pitch in zip(tqdm(yaws, unit="frame"), pitches, strict=True):
        camera = model.camera_at(yaw.expand(args.heads), pitch.expand(args.heads))
        images = model.images(z_shape, z_appearance, camera, args.resolution, args.psi)
        frames.append(torch.cat(list(images), -1))  # side by side
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_video(torch.stack(frames), args.out, args.fps)
    print(args.out)
