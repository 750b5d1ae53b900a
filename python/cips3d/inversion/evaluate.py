"""How well inversion does where the truth is known: heads that the model has not seen, and its own pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, median

import torch
from torch import Tensor
from tqdm import tqdm

from cips3d.data import to_float
from cips3d.data.heads import HeadPose, render_head, sample_parameters, sample_pose
from cips3d.data.shards import supersample
from cips3d.inversion.optimise import InversionSettings, invert, psnr
from cips3d.training.trained import TrainedModel

SOURCES = ("synthetic-heads", "generated")
HELD_OUT_POPULATION = 1000  # of synthetic heads, plus the seed: trainings take small numbers
NOVEL_VIEWS, NOVEL_SPREADS = 4, 1.5  # yaws of the new views, evenly over so many spreads to either side
MEASURES = ("psnr", "l1", "yaw_error_deg", "pitch_error_deg", "novel_psnr", "copied_psnr")


@dataclass(frozen=True)
class Case:
    """A picture [3,S,S] with its true pose (rad) and the true pictures [V,3,S,S] of the same head at yaw offsets."""

    image: Tensor
    yaw: float
    pitch: float
    turned: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Result:
    """Of one picture: PSNR in dB, mean absolute difference in [0,2], errors of the pose in degrees.

    novel_psnr compares new views with true ones; copied_psnr does so with the picture itself in their place, the
    least that an inversion that turns heads has to beat.
    """

    psnr: float
    l1: float
    yaw_error_deg: float
    pitch_error_deg: float
    novel_psnr: float
    copied_psnr: float


def cases(model: TrainedModel, source: str, count: int, seed: int) -> Iterator[Case]:
    """`count` pictures of `source` at the model's resolution. Raises ValueError for another source or count."""
    if source not in SOURCES or count < 1:
        raise ValueError(
            f"cases: wanted one of {', '.join(SOURCES)} and a count of at least 1, got {source!r}, {count}"
        )
    make = _head if source == SOURCES[0] else _own
    return (make(model, seed, index) for index in range(count))


def _head(model: TrainedModel, seed: int, index: int) -> Case:
    parameters = sample_parameters(HELD_OUT_POPULATION + seed, index)
    pose, side = sample_pose(HELD_OUT_POPULATION + seed, index), model.resolution

    def picture(pose: HeadPose) -> Tensor:
        return to_float(render_head(parameters, pose, side, supersample(side)).image)

    def turned(yaws: Tensor) -> Tensor:
        mean = model.camera
        return torch.stack([picture(HeadPose(mean.yaw_mean + yaw, mean.pitch_mean)) for yaw in yaws.tolist()])

    return Case(picture(pose), pose.yaw, pose.pitch, turned)


def _own(model: TrainedModel, seed: int, index: int) -> Case:
    """A random head of the model from a random pose; the same whatever the count."""
    shape, appearance = (w[index:] for w in model.styles(index + 1, seed))
    camera = model.poses(index + 1, seed)[index]
    pitch, yaw = camera.pitch_yaw[0].tolist()
    image = model.style_views(shape, appearance, camera)["inr"][0]
    return Case(image, yaw, pitch, lambda yaws: model.turned((shape, appearance), yaws))


def evaluate(
    model: TrainedModel, source: str, count: int, settings: InversionSettings, progress: bool = True
) -> Iterator[tuple[Tensor, Result]]:
    """Inverts `count` pictures of `source`, whose heads have the settings' seed too: pictures of each, and how well.

    The pictures [2 + 2V,3,S,S] are the target, the reconstruction, new views, and the true new views.
    """
    yaws = model.yaws(NOVEL_VIEWS, NOVEL_SPREADS)
    for case in tqdm(cases(model, source, count, settings.seed), total=count, unit="image", disable=not progress):
        found = invert(model, case.image, settings, progress=False)
        pitch, yaw = found.camera.pitch_yaw[0].tolist()
        truth, views = case.turned(yaws), found.model.turned(found.styles, yaws)
        result = Result(
            psnr=found.psnr,
            l1=found.l1,
            yaw_error_deg=abs(math.degrees(yaw - case.yaw)),
            pitch_error_deg=abs(math.degrees(pitch - case.pitch)),
            novel_psnr=fmean(psnr(view, true) for view, true in zip(views, truth, strict=True)),
            copied_psnr=fmean(psnr(case.image, true) for true in truth),
        )
        yield torch.cat([case.image[None], found.image[None], views, truth]), result


def summary(results: list[Result]) -> dict[str, dict[str, float]]:
    """Mean, median and worst of each measure."""
    table = {}
    for name in MEASURES:
        values = [getattr(result, name) for result in results]
        worst = min(values) if name.endswith("psnr") else max(values)
        table[name] = {"mean": fmean(values), "median": median(values), "worst": worst}
    return table
