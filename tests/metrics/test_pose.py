"""The pose regressor learns a pose that is there to be seen, and reports none where there is none."""

import math

import torch

from cips3d.config.training import load_training
from cips3d.metrics.pose import measure_pose_control
from cips3d.metrics.regressor import fit_regressor
from cips3d.models.generator import Generator
from cips3d.training.trained import TrainedModel


def blobs(n, seed=0):
    """Images of a bright blob whose column follows yaw and whose row follows pitch, and those poses."""
    poses = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([0.3, 0.155]) + math.pi / 2
    offset = (poses - math.pi / 2) * torch.tensor([1.0, 2.0])
    side = torch.linspace(-1, 1, 16)
    distance = (side.view(1, 1, -1) - offset[:, :1, None]) ** 2 + (side.view(1, -1, 1) - offset[:, 1:, None]) ** 2
    return (2 * torch.exp(-8 * distance) - 1).unsqueeze(1).expand(-1, 3, -1, -1).contiguous(), poses


def test_regressor_generalises():
    regressor = fit_regressor(*blobs(640), epochs=4)
    images, poses = blobs(100, seed=1)
    error = regressor.predict(images) - poses
    assert (error.std(0) < 0.4 * poses.std(0)).all()


def test_untrained_generator_has_no_pose_control():
    config = load_training("tiny")
    torch.manual_seed(0)
    model = TrainedModel(Generator(config.generator), config.camera, config.render, 16)
    report = measure_pose_control(model, *blobs(640), count=64, epochs=4)
    assert report.real_yaw > 0.9 and report.real_pitch > 0.9
    assert abs(report.generated_yaw) < 0.7


def test_predictions_do_not_depend_on_the_batch():
    regressor = fit_regressor(*blobs(128), epochs=1)
    images, _ = blobs(5)
    torch.testing.assert_close(regressor.predict(images)[:2], regressor.predict(images[:2]))
