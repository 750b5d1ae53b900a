"""Views of one surface agree through their depth; wrong depth and pictures that do not turn disagree."""

import math

import torch

from cips3d.metrics.reprojection import measure_reprojection, reprojection
from cips3d.metrics.views import Views, generated_views, real_views, warp
from cips3d.render import Camera, camera_rays

SIDE = 33


def test_warp_finds_the_point_that_the_depth_names(painted_ball):
    """Pictures whose colours are the positions of the ball's points: the warped one must show the target's own."""
    cameras = [Camera.from_angles(yaw, 1.5) for yaw in (1.4, 1.7)]
    views = []
    for camera in cameras:
        rays = camera_rays(camera, SIDE)
        towards = -(rays.origins * rays.directions).sum(-1)
        inside = towards**2 - (rays.origins**2).sum(-1) + 0.08**2
        depth = towards - inside.clamp(min=0).sqrt()
        points = rays.origins + rays.directions * depth[..., None]
        images, depth = points.mT.unflatten(-1, (SIDE, SIDE)), depth.unflatten(-1, (SIDE, SIDE))[:, None]
        views.append((Views(images, depth, camera), inside.unflatten(-1, (SIDE, SIDE))[:, None] > 0))
    (source, _), (target, on_ball) = views
    warped, seen = warp(source, target)
    assert 0.5 < (seen & on_ball).sum() / on_ball.sum() < 1  # a part of the target's side is behind the source's edge
    error = (warped - target.images).abs().amax(1, keepdim=True)[seen & on_ball]
    assert error.median() < 5e-4 and error.max() < 0.02  # reading between pixels of 0.0066, near the outline too


def test_what_is_hidden_is_not_seen(painted_ball):
    """A wall behind a small near patch: seen from the side, the patch hides another part of the wall."""
    cameras = [Camera.from_angles(math.pi / 2 + yaw, math.pi / 2) for yaw in (-0.3, 0.3)]
    depth = torch.full((1, 1, SIDE, SIDE), 1.1)
    depth[..., 12:21, 12:21] = 0.9
    source, target = (Views(torch.zeros(1, 3, SIDE, SIDE), depth, camera) for camera in cameras)
    seen = warp(source, target)[1]
    assert not seen[0, 0, 14:19].all() and seen.any()


def test_a_turning_ball_beats_a_flipping_one(painted_ball, flipping_ball):
    consistent, flipping = measure_reprojection(painted_ball, 8), measure_reprojection(flipping_ball, 8)
    assert consistent.error < 0.03 and flipping.error > 2 * consistent.error
    assert 0.5 < consistent.seen < 1 and consistent.heads == 8


def test_true_heads_agree_and_wrong_depth_does_not(painted_ball):
    views = real_views(painted_ball, 4, painted_ball.yaws(3, 1.0))
    true = reprojection(views)
    nearer = [view._replace(depth=view.depth - 0.05) for view in views]
    assert true.error < 0.1 and reprojection(nearer).error > 1.5 * true.error


def test_no_common_pixel_is_no_number(painted_ball):
    views = generated_views(painted_ball, 2, torch.tensor([-0.2, 0.2]))
    apart = [views[0], views[1]._replace(depth=torch.full_like(views[1].depth, 5.0))]
    none = reprojection(apart)
    assert none.seen == 0 and math.isnan(none.error)
