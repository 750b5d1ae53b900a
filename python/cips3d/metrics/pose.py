"""Pose control: does a generated head look where the camera was told to be?

A small network learns yaw and pitch from real images whose poses are known (synthetic heads); asked about generated
images, it must find the poses that were commanded. It never sees a generated image while learning, but it learns from
pictures of random sharpness: short trainings generate soft ones, which should be judged by their pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cips3d.training.trained import TrainedModel

WIDTHS = (32, 64, 96)  # channels after each halving of the side
NORM_GROUPS = 8
HELD_OUT = 0.1  # share of the real images that measure the regressor itself
BATCH = 32
LEARNING_RATE = 2e-3  # at the start; it falls to zero along a cosine
WEIGHT_DECAY = 0.05


class PoseRegressor(nn.Module):
    """Yaw and pitch [B,2] in standardised units from images [B,3,S,S] in [-1,1], S at least 8."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, padding=1),
                nn.GroupNorm(NORM_GROUPS, after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(WIDTHS[-1] * 16, 64), nn.ReLU(), nn.Linear(64, 2))
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("std", torch.ones(2))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Yaw and pitch [B,2] in rad."""
        self.eval()
        return torch.cat([self(part) for part in images.split(BATCH)]) * self.std + self.mean


@dataclass(frozen=True)
class PoseReport:
    """Correlations of true with estimated angles: on real images the regressor has not seen, and on generated ones."""

    real_yaw: float
    real_pitch: float
    generated_yaw: float
    generated_pitch: float


def fit_pose_regressor(images: Tensor, poses: Tensor, epochs: int = 6, seed: int = 0) -> PoseRegressor:
    """Learn yaw and pitch from images [N,3,S,S] in [-1,1] and poses [N,2] in rad; AdamW on the squared error."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PoseRegressor()
        model.mean, model.std = poses.mean(0), poses.std(0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        steps = epochs * (len(images) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        for _ in range(epochs):
            for index in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
                loss = F.mse_loss(model(_softened(images[index])), (poses[index] - model.mean) / model.std)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def _softened(images: Tensor) -> Tensor:
    """Each image [B,3,S,S] mixed, in a random proportion, with itself at half the resolution."""
    coarse = F.interpolate(F.avg_pool2d(images, 2), size=images.shape[-2:], mode="bilinear")
    return torch.lerp(images, coarse, torch.rand(len(images), 1, 1, 1))


def measure_pose_control(
    model: TrainedModel, images: Tensor, poses: Tensor, count: int = 256, epochs: int = 6, seed: int = 0
) -> PoseReport:
    """Fit the regressor on real images and poses, then compare commanded and estimated poses of `count` new heads.

    images [N,3,S,S] in [-1,1] at the model's resolution, poses [N,2] (yaw, pitch) in rad. The heads and the commanded
    poses are drawn from the training distribution.
    """
    held_out = max(2, round(HELD_OUT * len(images)))
    regressor = fit_pose_regressor(images[held_out:], poses[held_out:], epochs, seed)
    real = _correlations(regressor.predict(images[:held_out]), poses[:held_out])
    camera = model.poses(count, seed)
    generated = model.images(*model.codes(count, seed), camera)
    made = _correlations(regressor.predict(generated), camera.pitch_yaw.flip(1))
    return PoseReport(*real, *made)


def _correlations(estimated: Tensor, true: Tensor) -> tuple[float, float]:
    """Pearson correlation of each column of [N,2]."""
    yaw, pitch = (torch.corrcoef(torch.stack([estimated[:, i], true[:, i]]))[0, 1].item() for i in range(2))
    return yaw, pitch
