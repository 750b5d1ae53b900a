"""Depth of a constructed ball against its formula, and of heads against what their pictures show."""

import math

import pytest
import torch

from cips3d.data import SyntheticHeads, to_float
from cips3d.metrics.geometry import GRID, depth_error, depth_relief, measure_geometry, true_depth
from cips3d.metrics.mirror import _ball_depth

FAR = 1.12


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    return SyntheticHeads(16, 32, 0, tmp_path_factory.mktemp("cache"), progress=False)


def test_rendered_depth_of_a_ball(painted_ball, monkeypatch):
    camera = painted_ball.camera_at(torch.zeros(1))
    depth = painted_ball.views(*painted_ball.codes(1, 0), camera, ("depth",), GRID)["depth"]
    monkeypatch.setattr("cips3d.metrics.mirror.BALL_RADIUS", 0.08)
    truth = _ball_depth(camera, depth)
    truth[truth > 0.96] = FAR  # towards the outline a ray's way through the ball is shorter than a sample's
    error = depth_error(depth[:, 0], truth[:, 0], FAR)
    assert error < 0.006  # samples of a ray are 0.01 apart
    assert depth_error(depth[:, 0] + 0.05, truth[:, 0], FAR) == pytest.approx(0.05 + error, abs=1e-4)
    assert 0.01 < depth_relief(truth[:, 0], FAR) < 0.03
    assert depth_relief(torch.full((1, 4, 4), FAR), FAR) == 0
    assert math.isnan(depth_error(truth[:, 0], torch.full((1, GRID, GRID), FAR), FAR))


def test_true_depth_is_that_of_the_data_set(heads):
    depth = true_depth(heads, 2, FAR)
    wanted = heads.render(1, GRID).depth
    seen = wanted.isfinite()
    assert torch.equal(depth[1][seen], wanted[seen]) and (depth[1][~seen] == FAR).all()


def test_measuring_a_model(painted_ball, heads):
    """The network knows heads; a ball is none, so it is off by more than true heads are."""
    images = to_float(torch.stack([heads[index] for index in range(len(heads))]))
    found = measure_geometry(painted_ball, images, heads, count=4, epochs=15)
    assert 0 < found.real_error < found.error and found.heads == 4
    rendered = painted_ball.views(*painted_ball.codes(4, 0), painted_ball.poses(4, 0), ("depth",), GRID)["depth"]
    assert found.relief == pytest.approx(depth_relief(rendered[:, 0], FAR))
    assert 0.01 < found.real_relief < 0.05
