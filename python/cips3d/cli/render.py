"""Write a video along a camera path, as .mp4, .gif or a folder of PNGs; panels of a head stand side by side.

cips3d render --run-dir runs/first --out turn.mp4
cips3d render --run-dir runs/first --trajectory yaw --panels inr nerf depth normal --samples 24 --out panels.gif
cips3d render --checkpoint G_ema.pth --heads 4 --resolution 512 --frames 90 --out frames
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from cips3d.cli.arguments import add_latent_argument, add_model_arguments, describe, model_of, styles_of
from cips3d.models.view import PANELS
from cips3d.render import Camera
from cips3d.render.trajectories import TRAJECTORIES, camera_at
from cips3d.render.video import check_format, write_video
from cips3d.training.trained import TrainedModel

YAW_SPREADS = 1.5  # how far paths go to either side, in standard deviations of the training poses
PITCH_SPREADS = 0.75
PREVIEW = 32  # pixels; small depth maps of all frames, rendered first, give the depth panel one range for the video


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_latent_argument(parser)
    parser.add_argument(
        "--out", type=Path, help=".mp4, .gif, or without suffix a folder (default render-TRAJECTORY-seedSEED.mp4)"
    )
    parser.add_argument("--heads", type=int, default=1, help="heads side by side, or a row each (default 1)")
    parser.add_argument("--frames", type=int, default=48, help="pictures of one closed round (default 48)")
    parser.add_argument("--fps", type=int, default=24, help="pictures a second (default 24)")
    parser.add_argument("--trajectory", choices=TRAJECTORIES, default="circle", help="camera path (default circle)")
    parser.add_argument(
        "--panels",
        nargs="+",
        choices=PANELS,
        default=["inr"],
        metavar="PANEL",
        help="inr: the image; nerf: the NeRF's own image, meaningful if trained with loss.use_aux; depth: near is "
        "bright, one range for the whole video; normal: of the density's gradient, x y z of the camera as r g b "
        "(default inr)",
    )
    parser.add_argument("--samples", type=int, help="samples a ray (default: that of the training)")


def run(args: argparse.Namespace) -> None:
    for name in ("heads", "frames", "fps", "samples"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    out = args.out or Path(f"render-{args.trajectory}-seed{args.seed}.mp4")
    check_format(out)  # before all the frames are rendered
    model = model_of(args)
    write_video(_frames(model, args), out, args.fps, describe(args))
    print(out)


def _frames(model: TrainedModel, args: argparse.Namespace) -> Iterator[Tensor]:
    """The video's frames [3,H,W]: one panel has the heads side by side, several have a row for each head."""
    styles = styles_of(args, model, args.heads, args.psi)
    swing = model.swing(YAW_SPREADS, PITCH_SPREADS)

    def cameras(label: str) -> Iterator[Camera]:
        for frame in tqdm(range(args.frames), desc=label, unit="frame"):
            yield camera_at(args.trajectory, swing, frame, args.frames)[torch.zeros(args.heads, dtype=torch.long)]

    depth_range = None
    if "depth" in args.panels:
        previews = [
            model.style_views(*styles, camera, ("depth",), PREVIEW, args.samples)["depth"]
            for camera in cameras("depth range")
        ]
        depth_range = torch.stack(previews).aminmax()
    for camera in cameras("frames"):
        views = model.style_views(*styles, camera, args.panels, args.resolution, args.samples)
        if depth_range is not None:
            views["depth"] = _grey(views["depth"], *depth_range)
        rows = torch.cat([views[name] for name in args.panels], -1)  # [heads,3,H,panels*W]
        yield torch.cat(list(rows), -1 if len(args.panels) == 1 else -2)


def _grey(depth: Tensor, nearest: Tensor, farthest: Tensor) -> Tensor:
    """Depth [B,1,H,W] -> grey [B,3,H,W], white at the nearest and black at the farthest."""
    grey = 1 - 2 * (depth - nearest) / (farthest - nearest).clamp(min=torch.finfo(depth.dtype).eps)
    return grey.clamp(-1, 1).expand(-1, 3, -1, -1)
