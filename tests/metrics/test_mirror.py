"""The mirror-symmetry score is nothing for what turns, however it looks, and high for what flips."""

import dataclasses

import torch

from cips3d.metrics.mirror import SPREADS, measure_mirror_symmetry, mirror_symmetry
from cips3d.metrics.views import generated_views, real_views

HEADS = 8


def test_a_ball_that_turns(painted_ball):
    seen = measure_mirror_symmetry(painted_ball, HEADS)
    assert seen.score < 1e-3 and seen.turned < 0.1 < 0.3 < seen.flipped and seen.flips == 0
    assert seen.heads == HEADS


def test_a_ball_that_flips(flipping_ball):
    seen = measure_mirror_symmetry(flipping_ball, HEADS)
    assert seen.score > 0.2 and seen.flipped < 1e-6 and seen.flips == 1


def test_a_symmetric_ball_that_turns_does_not_flip(painted_ball):
    """Its views are mirror images of one another, and it is consistent all the same."""
    layer = painted_ball.generator.field.layers[0]
    with torch.no_grad():
        layer.weight[3:, 0] = 0  # the pattern no longer depends on x
    seen = measure_mirror_symmetry(painted_ball, HEADS)
    assert seen.flipped < 1e-6 and seen.score < 0.05  # what reading between pixels loses


def test_true_heads_turn_and_their_mirror_images_flip(painted_ball):
    model = dataclasses.replace(painted_ball, resolution=32)
    yaws = torch.tensor(SPREADS) * model.camera.yaw_std
    left, right = real_views(model, HEADS, -yaws), real_views(model, HEADS, yaws)
    assert mirror_symmetry(left, right).score < 0.01
    flipped = [r._replace(images=v.images.flip(-1), depth=v.depth.flip(-1)) for v, r in zip(left, right, strict=True)]
    assert mirror_symmetry(left, flipped).score > 0.4


def test_a_flip_painted_on_a_wall_is_found(flipping_ball, painted_ball):
    """The failure's usual form: all density at the far end, so that the depth shows nothing of the head."""

    def on_a_wall(model):
        yaws = torch.tensor(SPREADS) * model.camera.yaw_std
        far = model.generator.config.far
        sides = (generated_views(model, HEADS, sign * yaws) for sign in (-1, 1))
        return [[view._replace(depth=torch.full_like(view.depth, far)) for view in side] for side in sides]

    assert mirror_symmetry(*on_a_wall(flipping_ball)).score > 0.1
    assert mirror_symmetry(*on_a_wall(painted_ball)).score < 0.03


def test_equal_seeds_give_equal_scores(flipping_ball):
    first, again, other = (measure_mirror_symmetry(flipping_ball, 2, seed) for seed in (1, 1, 2))
    assert first == again != other
