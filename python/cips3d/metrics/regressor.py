"""A small network that learns numbers from real images whose truth is known, to read them from generated images.

It never sees a generated image while learning, but it learns from pictures of random sharpness: short trainings
generate soft ones, which should be judged by what they show.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (32, 64, 96)  # channels after each halving of the side
NORM_GROUPS = 8
HELD_OUT = 0.1  # share of the real images that measure the regressor itself
BATCH = 32
LEARNING_RATE = 2e-3  # at the start; it falls to zero along a cosine
WEIGHT_DECAY = 0.05
LARGEST_SIDE = 64  # pixels: larger pictures are averaged down to it
SMALLEST_STD = 1e-6  # of a number that is the same in all images


class Regressor(nn.Module):
    """K numbers [B,K] in standardised units from images [B,3,S,S] in [-1,1], S at least 8."""

    mean: Tensor
    std: Tensor

    def __init__(self, outputs: int) -> None:
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
        self.head = nn.Sequential(nn.Linear(WIDTHS[-1] * 16, 64), nn.ReLU(), nn.Linear(64, outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("std", torch.ones(outputs))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(shrink(images)))

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The numbers [B,K] in their own units."""
        self.eval()
        return torch.cat([self(part) for part in images.split(BATCH)]) * self.std + self.mean


def fit_regressor(images: Tensor, numbers: Tensor, epochs: int = 6, seed: int = 0) -> Regressor:
    """Learn numbers [N,K] from images [N,3,S,S] in [-1,1]; AdamW on the squared error in standardised units."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Regressor(numbers.shape[1])
        model.mean, model.std = numbers.mean(0), numbers.std(0).clamp(min=SMALLEST_STD)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        steps = epochs * (len(images) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        for _ in range(epochs):
            for index in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
                loss = F.mse_loss(model(_softened(images[index])), (numbers[index] - model.mean) / model.std)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def shrink(images: Tensor) -> Tensor:
    """Images [B,3,S,S] as the regressor looks at them, at most `LARGEST_SIDE` pixels wide."""
    return F.adaptive_avg_pool2d(images, LARGEST_SIDE) if images.shape[-1] > LARGEST_SIDE else images


def held_out(count: int) -> int:
    """How many of `count` real images, the first ones, measure the regressor instead of teaching it."""
    return max(2, round(HELD_OUT * count))


def correlations(estimated: Tensor, true: Tensor) -> list[float]:
    """Pearson correlation of each column of [N,K]."""
    columns = zip(estimated.T, true.T, strict=True)
    return [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in columns]


def _softened(images: Tensor) -> Tensor:
    """Each image [B,3,S,S] mixed, in a random proportion, with itself at half the resolution."""
    coarse = F.interpolate(F.avg_pool2d(images, 2), size=images.shape[-2:], mode="bilinear")
    return torch.lerp(images, coarse, torch.rand(len(images), 1, 1, 1))
