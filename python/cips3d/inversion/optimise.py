"""From a picture to styles and a pose: gradient descent through the renderer, from coarse to fine.

The picture as a function of the yaw has several valleys, so candidates that begin at yaws from one side to the other
descend together on a small picture; the best one goes on at the resolution of the training. Randomness of rendering is
fixed (`Draws.none`, as `TrainedModel.style_views` renders), so equal arguments give equal results.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from cips3d.inversion.space import SPACES, latent_space
from cips3d.render import Camera, Draws
from cips3d.training.trained import TrainedModel

SEARCH_SIDE = 16  # pixels of the search's pictures: a head's pose and colours are to be seen at a 64th of the work
SEARCH_SPREADS = 1.5  # the search begins at yaws within so many standard deviations of the training poses
COARSEST_SIDE = 4  # of the pyramid that pictures are compared with
SEARCH_RATE, RATE = 0.1, 0.05  # Adam's steps in spreads of styles and poses: a spread is crossed in a dozen or two
TUNE_RATE = 1e-3  # of the weights
BETAS = (0.9, 0.99)  # gradients shrink quickly on the way down: their squares are forgotten sooner than usual
PATIENCE, GAIN = 30, 1e-3  # stops when the best loss has not fallen by this share for so many steps
PEAK = 2.0  # range of pictures in [-1,1]


@dataclasses.dataclass(frozen=True)
class InversionSettings:
    """How to search. pose is (yaw, pitch) in rad, absolute as in `Camera.from_angles`, or None to find it too."""

    space: str = "w"  # or "z": only heads that a code gives
    pose: tuple[float, float] | None = None
    starts: int = 5  # yaws that the search begins at, or codes if the pose is given
    search_steps: int = 60
    steps: int = 150
    tune_steps: int = 0  # of the generator's own weights afterwards, at the styles and the pose found
    prior: float = 0.01  # pull to the styles and poses of the training, against differences in [0,2]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"invert: space must be one of {', '.join(SPACES)}, got {self.space!r}")
        for name, least in (("starts", 1), ("search_steps", 1), ("steps", 1), ("tune_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"invert: {name} must be at least {least}, got {getattr(self, name)}")
        if self.pose is not None and not all(map(math.isfinite, self.pose)):
            raise ValueError(f"invert: the pose must be two numbers, got {self.pose}")


class Inversion(NamedTuple):
    """What was found: `model` is the one given, with its weights tuned if that was asked for."""

    model: TrainedModel
    w_shape: Tensor  # [1,W]
    w_appearance: Tensor  # [1,W']
    camera: Camera  # of batch 1
    image: Tensor  # [3,S,S] in [-1,1], the reconstruction
    psnr: float  # dB, against the target
    l1: float  # mean absolute difference, pictures in [-1,1]

    @property
    def styles(self) -> tuple[Tensor, Tensor]:
        return self.w_shape, self.w_appearance


def invert(
    model: TrainedModel, target: Tensor, settings: InversionSettings | None = None, progress: bool = True
) -> Inversion:
    """Styles and pose with which `model` shows `target` [3,S,S] in [-1,1], S the model's resolution.

    Raises ValueError for a target of another shape.
    """
    settings, side = settings or InversionSettings(), model.resolution
    if target.shape != (3, side, side):
        raise ValueError(f"invert: the target must be [3,{side},{side}], got {list(target.shape)}")
    target = target[None].to(model.device)
    small = _shrunk(target, min(SEARCH_SIDE, side))
    candidates = _Candidates(model, settings)
    loss = candidates.descend(small, settings.search_steps, SEARCH_RATE, "search", progress)
    candidates.keep(int(loss.argmin()))
    candidates.descend(target, settings.steps, RATE, "refine", progress)
    (w_shape, w_appearance), camera = candidates.styles(), candidates.camera()
    w_shape, w_appearance = w_shape.detach(), w_appearance.detach()
    camera = Camera(camera.cam2world.detach(), camera.pitch_yaw.detach(), camera.fov_deg)
    if settings.tune_steps:
        model = _tuned(model, (w_shape, w_appearance), camera, target, settings.tune_steps, progress)
    image = model.style_views(w_shape, w_appearance, camera)["inr"]
    difference = image - target.cpu()
    return Inversion(
        model, w_shape, w_appearance, camera, image[0], psnr(image, target.cpu()), difference.abs().mean().item()
    )


def psnr(image: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio, dB, of pictures in [-1,1]."""
    return 10 * math.log10(PEAK**2 / max((image - target).square().mean().item(), torch.finfo(torch.float32).tiny))


class _Candidates:
    """Styles and poses on their way: coordinates [B,D] of both spaces, and poses [B,2] in spreads of the training."""

    def __init__(self, model: TrainedModel, settings: InversionSettings) -> None:
        self.model, self.settings = model, settings
        source, generator = torch.Generator().manual_seed(settings.seed), model.generator
        mappings = generator.mappings(model.camera_at(torch.zeros(1)).to(model.device))
        # A model with one code has no styles of appearance: there is nothing to find.
        self.spaces = [latent_space(settings.space, mapping) for mapping in mappings if mapping.z_dim]
        self.missing = [mapping for mapping in mappings if not mapping.z_dim]
        count = settings.starts if settings.pose is None or settings.space == "z" else 1  # all would be the same one
        self.latents = [space.start(count, source) for space in self.spaces]
        limit = SEARCH_SPREADS if count > 1 else 0.0
        yaws = torch.linspace(-limit, limit, count)
        self.pose = torch.stack([yaws, torch.zeros(count)], 1).to(self.latents[0])

    def styles(self) -> tuple[Tensor, Tensor]:
        found = [space.styles(x) for space, x in zip(self.spaces, self.latents, strict=True)]
        shape, appearance = found + [mapping.like.new_empty(len(self.pose), 0) for mapping in self.missing]
        return shape, appearance

    def camera(self) -> Camera:
        pose = self.model.camera
        if self.settings.pose is not None:
            yaw, pitch = self.pose.new_tensor(self.settings.pose).expand(len(self.pose), 2).unbind(1)
            return Camera.from_angles(yaw, pitch, pose.fov_deg)
        yaw, pitch = self.pose.unbind(1)
        return self.model.camera_at(yaw * pose.yaw_std, pitch * pose.pitch_std)

    def keep(self, index: int) -> None:
        """Drops all candidates but one."""
        self.latents = [x[index : index + 1] for x in self.latents]
        self.pose = self.pose[index : index + 1]

    def descend(self, target: Tensor, steps: int, rate: float, label: str, progress: bool) -> Tensor:
        """Moves every candidate towards `target` [1,3,S,S], each on its own; their losses [B]."""
        self.latents = [x.detach().requires_grad_() for x in self.latents]
        self.pose = self.pose.detach().requires_grad_(self.settings.pose is None)

        def loss() -> tuple[Tensor, Tensor]:
            image = _render(self.model, self.styles(), self.camera(), target.shape[-1])
            unlikely = sum(space.prior(x) for space, x in zip(self.spaces, self.latents, strict=True))
            unlikely = unlikely + self.pose.square().mean(1)
            return image, _pyramid_difference(image, target) + self.settings.prior * unlikely

        moving = [p for p in (*self.latents, self.pose) if p.requires_grad]
        return _minimise(loss, moving, target, steps, rate, label, progress)


def _render(model: TrainedModel, styles: tuple[Tensor, Tensor], camera: Camera, side: int) -> Tensor:
    """Images [B,3,side,side] with gradients, the same as `TrainedModel.style_views` shows."""
    render = model.render
    return model.generator.synthesise(
        *styles,
        camera,
        side,
        render.samples_per_ray,
        hierarchical=render.hierarchical,
        draws=Draws.none(samples=render.samples_per_ray),
        last_back=render.last_back,
        white_back=render.white_back,
    ).image


def _minimise(
    loss: Callable[[], tuple[Tensor, Tensor]],
    parameters: Iterable[Tensor],
    target: Tensor,
    steps: int,
    rate: float,
    label: str,
    progress: bool,
) -> Tensor:
    """Adam on the sum of `loss`, images [B,3,S,S] and values [B], its rate falling along a cosine; the last values."""
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, best_step, values = math.inf, 0, torch.empty(0)
    with tqdm(range(steps), desc=label, unit="step", disable=not progress) as bar:
        for step in bar:
            image, values = loss()
            optimizer.zero_grad()
            values.sum().backward()
            optimizer.step()
            schedule.step()
            least = int(values.argmin())
            value = values[least].item()
            bar.set_postfix(loss=f"{value:.4f}", psnr=f"{psnr(image[least : least + 1].detach(), target):.1f}")
            if value < best * (1 - GAIN):
                best, best_step = value, step
            elif step - best_step >= PATIENCE:
                break
    return values.detach()


def _tuned(
    model: TrainedModel, styles: tuple[Tensor, Tensor], camera: Camera, target: Tensor, steps: int, progress: bool
) -> TrainedModel:
    """The model with its weights, but for the mapping's, moved towards the target at fixed styles and pose.

    Pivotal tuning (arXiv 2106.05744) without its regulariser: the steps are few.
    """
    generator = copy.deepcopy(model.generator)
    tuned = dataclasses.replace(model, generator=generator)
    mapping = {id(parameter) for parameter in generator.mapping_parameters()}
    parameters = [p.requires_grad_() for p in generator.parameters() if id(p) not in mapping]

    def loss() -> tuple[Tensor, Tensor]:
        image = _render(tuned, styles, camera, target.shape[-1])
        return image, _pyramid_difference(image, target)

    _minimise(loss, parameters, target, steps, TUNE_RATE, "tune", progress)
    generator.requires_grad_(False)
    return tuned


def _pyramid_difference(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference [B] of images [B,3,S,S], summed over halvings of the side."""
    total: Any = 0.0
    while True:
        total = total + (image - target).abs().flatten(1).mean(1)
        if image.shape[-1] < 2 * COARSEST_SIDE:
            return total
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)


def _shrunk(image: Tensor, side: int) -> Tensor:
    """The image [1,3,S,S] smoothed and sampled at `side` pixels, the outer ones on its edges as a camera's are."""
    reach = round(image.shape[-1] / side) // 2  # pixels to either side that become one
    if reach:
        image = F.avg_pool2d(F.pad(image, (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1)
    return F.interpolate(image, size=(side, side), mode="bilinear", align_corners=True)
