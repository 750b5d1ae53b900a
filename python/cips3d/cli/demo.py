"""From nothing to a turning head in about ten minutes on two cores: train a small CIPS-3D on synthetic heads, measure
whether its pose can be commanded, write pictures, a video and a one-page report.

  cips3d demo --out demo
  cips3d demo --out demo --minutes 30        longer is better; the same command again goes on

Nothing is downloaded: the heads are rendered here.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from cips3d.cli.arguments import add_device_arguments
from cips3d.config.training import load_training, replace
from cips3d.data import image_grid, to_float
from cips3d.data.base import ImageDataset
from cips3d.metrics.pose import PoseReport, measure_pose_control
from cips3d.metrics.report import Report, write_report
from cips3d.metrics.speed import compare, speed_table
from cips3d.render.trajectories import camera_at
from cips3d.render.video import write_video
from cips3d.training.loop import open_images, train
from cips3d.training.trained import TrainedModel, load_model

GRID = (4, 8)  # rows and columns of the sample grid
SWEEP = (4, 7)  # heads and yaws of the sweep
SWEEP_SPREADS = 2.0  # the sweep covers so many standard deviations of the training poses on either side
VIDEO_HEADS, VIDEO_FRAMES, VIDEO_FPS = 4, 48, 24
VIDEO_SPREADS, VIDEO_NOD = 1.7, 0.5  # half-axes of the swing, in standard deviations of yaw and pitch
PICTURE_ZOOM = 3  # pictures of 32 pixels are shown so much larger, pixel by pixel
VIDEO_SCALE = 4  # the INR renders at any resolution: videos so many times that of the training
SEED = 1
WANTED_CORRELATION = 0.8  # between commanded and recovered yaw, below which the pose counts as not controlled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write into (default demo)")
    parser.add_argument("--preset", default="demo", help="training preset; its data must be synthetic-heads")
    parser.add_argument("--minutes", type=float, help="training time (default: the preset's, seven minutes)")
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    config = load_training(args.preset)
    if args.minutes is not None:
        config = replace(config, "schedule", minutes=args.minutes)

    print(f"training on {config.data.source} ...", flush=True)
    result = train(config, args.out / "run", args.device, args.impl)
    if result.reason in signal.Signals.__members__:
        print(f"stopped by {result.reason}; the same command goes on from step {result.step}")
        sys.exit(128 + signal.Signals[result.reason])
    model, real = load_model(args.out / "run", args.device, args.impl), open_images(config)

    print("measuring pose control ...", flush=True)
    pose = _pose_control(model, real)
    print("writing pictures ...", flush=True)
    _write_pictures(model, real, args.out)
    print("measuring the kernels ...", flush=True)
    speeds = compare(args.device, rounds=5)

    report = Report(args.out, config, result, pose, speeds, time.perf_counter() - started)
    path = write_report(report)
    print()
    print(speed_table(speeds))
    print()
    print(f"steps               {result.step} in {result.seconds / 60:.1f} min of training")
    print(
        f"pose control        yaw {pose.generated_yaw:.3f}, pitch {pose.generated_pitch:.3f}: correlation of commanded"
    )
    print(f"                    and recovered angles (on real images: {pose.real_yaw:.3f}, {pose.real_pitch:.3f})")
    for name in ("samples.png", "yaw_sweep.png", "turntable.mp4", "turntable.gif"):
        print(f"{'wrote':<19} {args.out / name}")
    print(f"{'wrote':<19} {path.resolve()}  <- open this one")
    if pose.generated_yaw < WANTED_CORRELATION:
        print(f"note: the yaw is below {WANTED_CORRELATION}; train longer, for example with --minutes 30")


def _pose_control(model: TrainedModel, real: ImageDataset) -> PoseReport:
    images = to_float(torch.stack([real[index] for index in range(len(real))]))
    poses = torch.tensor([real.pose(index) for index in range(len(real))])
    return measure_pose_control(model, images, poses)


def _write_pictures(model: TrainedModel, real: ImageDataset, out: Path) -> None:
    count = GRID[0] * GRID[1]
    samples = model.images(*model.codes(count, SEED), model.poses(count, SEED))
    sweep = model.turned(model.styles(SWEEP[0], SEED), model.yaws(SWEEP[1], SWEEP_SPREADS))
    _save(image_grid(samples, GRID[1]), out / "samples.png")
    _save(image_grid(sweep, SWEEP[1]), out / "yaw_sweep.png")
    _save(image_grid(torch.stack([real[i % len(real)] for i in range(2 * GRID[1])]), GRID[1]), out / "real.png")
    frames = _turntable(model)
    for name in ("turntable.mp4", "turntable.gif"):
        write_video(frames, out / name, VIDEO_FPS)


def _turntable(model: TrainedModel) -> torch.Tensor:
    """Frames [T,3,S,heads*S] of some heads side by side, turning from side to side."""
    codes, swing, frames = model.codes(VIDEO_HEADS, SEED), model.swing(VIDEO_SPREADS, VIDEO_NOD), []
    for frame in range(VIDEO_FRAMES):
        camera = camera_at("circle", swing, frame, VIDEO_FRAMES)[torch.zeros(VIDEO_HEADS, dtype=torch.long)]
        frames.append(torch.cat(list(model.images(*codes, camera, VIDEO_SCALE * model.resolution)), -1))
    return torch.stack(frames)


def _save(picture: Image.Image, path: Path) -> None:
    size = picture.width * PICTURE_ZOOM, picture.height * PICTURE_ZOOM
    picture.resize(size, Image.Resampling.NEAREST).save(path)
