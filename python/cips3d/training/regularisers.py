"""Optional terms of the generator's loss, all off by default. None of them is part of the CIPS-3D paper.

Formulas, for a batch of B fakes x of codes z, z' and camera angles a (standardised: of mean 0 and spread 1):

pose        mean (E_a(x) - a)^2         `pos_lambda` of pi-GAN's public code: the picture must show the commanded pose
style       mean (E_z(x) - z')^2        its `z_lambda`, and InfoGAN (arXiv 1606.03657): and the appearance code, or z
                                        where there is none
perceptual  sum_k mean (F_k(x) - F_k(x_nerf))^2     feature maps F_k (arXiv 1603.08155) of the INR's image and the
                                        NeRF's own; StyleNeRF's NeRF path regularisation (arXiv 2110.08985) in features
density     mean |s(p) - s(p + e)|      total variation as in EG3D's public code (arXiv 2112.07945): s the raw density,
                                        p uniform in the box, e normal with 0.004 of the box's side as spread
normal      mean [s(p) > 0] |n(p) - n(p + e)|^2     after UNISURF (arXiv 2104.10078): n = grad s / |grad s|; in empty
                                        space it means nothing
eikonal     mean (|grad s(p)| / slope - 1)^2        IGR (arXiv 2002.10099): s / slope becomes a signed distance

The encoder E is a small network that learns from the fakes alone, while the generator goes down the same error.
`normal` and `eikonal` are gradients of gradients, of `cips3d_ext.siren_field` and with its derivatives of second order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.config.loader import ConfigError
from cips3d.config.training import TrainingConfig
from cips3d.distributed import average_, own_rows, world_size
from cips3d.metrics.regressor import Regressor
from cips3d.models.base import BaseGenerator
from cips3d.models.vgg import load_vgg16
from cips3d.render.image import RenderOutput
from cips3d.render.rays import Camera

POINTS = 1000  # of each head, with a neighbour each (EG3D)
NEIGHBOUR = 0.004  # their distance's spread as a part of the box's side (EG3D)
ANGLES = 2  # yaw and pitch
FIELD_TERMS = {"density", "normal", "eikonal"}

FeatureMaps = Callable[[Tensor], list[Tensor]]


class Codes(NamedTuple):
    """What a batch of B fakes was made of: codes [B,Z], [B,Z'] and cameras.

    `pose` and `mixing` are what some models map the codes with (`BaseGenerator.map_training`).
    """

    z_shape: Tensor
    z_appearance: Tensor
    camera: Camera
    pose: Camera | None = None
    mixing: Tensor | None = None

    def of_images(self, images: slice) -> Codes:
        """Those of the chosen images (indices along B)."""
        pose, mixing = self.pose, self.mixing
        return Codes(
            self.z_shape[images],
            self.z_appearance[images],
            self.camera[images],
            None if pose is None else pose[images],
            None if mixing is None else mixing[images],
        )


class Penalty(NamedTuple):
    """The weighted sum, to be added to the generator's loss, and each term's value by its name."""

    total: Tensor
    terms: dict[str, Tensor]


class Regularisers:
    """The terms that `config.regularisers` weighs, with the encoder and the feature network that some of them need.

    Raises ConfigError where the feature network cannot be read.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config, self.weights = config, config.regularisers.weights()
        self.encoder: Regressor | None = None
        self.features: FeatureMaps | None = None
        if self.weights.keys() & {"pose", "style"}:
            codes = config.generator.z_appearance_dim or config.generator.z_shape_dim
            self.encoder = Regressor(ANGLES + codes).to(device)
            rates = config.optimizer
            self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=rates.g_lr, betas=rates.betas)
        if "perceptual" in self.weights:
            self.features = _feature_network(config.regularisers.perceptual_network, device)

    def __call__(
        self, generator: BaseGenerator, codes: Codes, fake: RenderOutput, rng: torch.Generator
    ) -> Penalty | None:
        """The penalty of this process's part of a batch; without any weight None, and `rng` draws nothing."""
        if not self.weights:
            return None
        terms: dict[str, Tensor] = {}
        image, nerf_image = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in fake[:2])
        if self.encoder is not None:
            told = self.encoder(image)
            if "pose" in self.weights:
                terms["pose"] = mean_square(told[:, :ANGLES], self._angles(codes.camera))
            if "style" in self.weights:
                code = codes.z_appearance if codes.z_appearance.shape[1] else codes.z_shape
                terms["style"] = mean_square(told[:, ANGLES:], code)
        if self.features is not None:
            terms["perceptual"] = perceptual_distance(self.features, image, nerf_image)
        # A frozen NeRF would get no gradient from these.
        if self.weights.keys() & FIELD_TERMS and all(p.requires_grad for p in generator.nerf_parameters()):
            terms |= self._of_the_field(generator, codes, rng)
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum() if terms else None
        return None if total is None else Penalty(total, terms)

    def learn(self) -> None:
        """One step of the encoder with the gradients that the generator's backward pass left in it."""
        if self.encoder is not None:
            average_([parameter.grad for parameter in self.encoder.parameters() if parameter.grad is not None])
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        if self.encoder is None:
            return {}
        return {"encoder": self.encoder.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.encoder is not None:
            self.encoder.load_state_dict(state["encoder"])
            self.optimizer.load_state_dict(state["optimizer"])

    def _angles(self, camera: Camera) -> Tensor:
        """Yaw and pitch [B,2], standardised."""
        pose, pitch_yaw = self.config.camera, camera.pitch_yaw
        means = pitch_yaw.new_tensor([pose.yaw_mean, pose.pitch_mean])
        spreads = pitch_yaw.new_tensor([pose.yaw_std or 1.0, pose.pitch_std or 1.0])
        return (pitch_yaw.flip(-1) - means) / spreads

    def _of_the_field(self, generator: BaseGenerator, codes: Codes, rng: torch.Generator) -> dict[str, Tensor]:
        points = self._points(len(codes.z_shape) * world_size(), rng)
        field = generator.field_of(generator.map_shape(codes.z_shape, codes.pose))
        density_at = partial(generator.density, field)
        if not self.weights.keys() & {"normal", "eikonal"}:
            return {"density": density_variation(density_at(points))}
        density, gradient = density_and_gradient(density_at, points)
        terms = {
            "density": lambda: density_variation(density),
            "normal": lambda: normal_variation(density, gradient),
            "eikonal": lambda: eikonal(gradient[:, 0], self.config.regularisers.eikonal_slope),
        }
        return {name: term() for name, term in terms.items() if name in self.weights}

    def _points(self, batch: int, rng: torch.Generator) -> Tensor:
        """Points [B,2,POINTS,3] uniform in the box, and a neighbour of each: this process's rows of the batch's."""
        side = self.config.generator.box_side
        points = side * (torch.rand(batch, POINTS, 3, generator=rng, device=rng.device) - 0.5)
        offsets = NEIGHBOUR * side * torch.randn(batch, POINTS, 3, generator=rng, device=rng.device)
        return torch.stack([points, points + offsets], 1)[own_rows(batch)]


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    return (a - b.to(a)).square().mean()


def perceptual_distance(features: FeatureMaps, a: Tensor, b: Tensor) -> Tensor:
    """sum_k mean (F_k(a) - F_k(b))^2 of images [B,3,S,S] in [-1,1]; `features` gives the maps F_k."""
    pairs = zip(features(a), features(b), strict=True)
    return torch.stack([mean_square(map_a, map_b) for map_a, map_b in pairs]).sum()


def density_and_gradient(density_at: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """The density [B,*] at points [B,*,3] and its gradient [B,*,3]; both have gradients towards the field."""
    points = points.detach().requires_grad_()
    density = density_at(points)
    (gradient,) = torch.autograd.grad(density.sum(), points, create_graph=True)
    return density, gradient


def density_variation(density: Tensor) -> Tensor:
    """mean |s(p) - s(p + e)| of densities [B,2,P] at points and their neighbours."""
    return (density[:, 0] - density[:, 1]).abs().mean()


def normal_variation(density: Tensor, gradient: Tensor) -> Tensor:
    """mean [s(p) > 0] |n(p) - n(p + e)|^2 of densities s [B,2,P] and their gradients [B,2,P,3], n of length 1."""
    normals = F.normalize(gradient, dim=-1)
    differences = (normals[:, 0] - normals[:, 1]).square().sum(-1)
    return (differences * (density[:, 0] > 0)).mean()


def eikonal(gradient: Tensor, slope: float) -> Tensor:
    """mean (|g| / slope - 1)^2 of gradients [B,P,3]."""
    return (torch.linalg.vector_norm(gradient, dim=-1) / slope - 1).square().mean()


def _feature_network(path: str | None, device: torch.device) -> FeatureMaps:
    assert path is not None
    try:
        return load_vgg16(Path(path)).to(device)
    except ValueError as error:
        raise ConfigError(f"regularisers.perceptual_network: {error}") from error
