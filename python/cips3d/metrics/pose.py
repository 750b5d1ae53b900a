"""Pose control: does a generated head look where the camera was told to be?

A small network learns yaw and pitch from real images whose poses are known (synthetic heads); asked about generated
images, it must find the poses that were commanded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cips3d.metrics.regressor import correlations, fit_regressor, held_out
from cips3d.training.trained import TrainedModel


@dataclass(frozen=True)
class PoseReport:
    """Correlations of true with estimated angles, and mean absolute errors in degrees.

    On real images the regressor has not seen, where the error is the regressor's own, and on generated ones.
    """

    real_yaw: float
    real_pitch: float
    generated_yaw: float
    generated_pitch: float
    real_yaw_error_deg: float
    real_pitch_error_deg: float
    generated_yaw_error_deg: float
    generated_pitch_error_deg: float


def measure_pose_control(
    model: TrainedModel, images: Tensor, poses: Tensor, count: int = 256, epochs: int = 6, seed: int = 0
) -> PoseReport:
    """Fit the regressor on real images and poses, then compare commanded and estimated poses of `count` new heads.

    images [N,3,S,S] in [-1,1] at the model's resolution, poses [N,2] (yaw, pitch) in rad. The heads and the commanded
    poses are drawn from the training distribution.
    """
    held = held_out(len(images))
    regressor = fit_regressor(images[held:], poses[held:], epochs, seed)
    camera = model.poses(count, seed)
    generated = model.images(*model.codes(count, seed), camera)
    pairs = (regressor.predict(images[:held]), poses[:held]), (regressor.predict(generated), camera.pitch_yaw.flip(1))
    agreement = [value for estimated, true in pairs for value in correlations(estimated, true)]
    return PoseReport(*agreement, *(value for pair in pairs for value in _errors_deg(*pair)))


def _errors_deg(estimated: Tensor, true: Tensor) -> list[float]:
    """Mean absolute error of each column of [N,2], rad in, degrees out."""
    return torch.rad2deg((estimated - true).abs()).mean(0).tolist()
