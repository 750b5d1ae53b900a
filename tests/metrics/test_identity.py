"""Cosines between views: of what stays with a head, of what changes with the view, and of attributes learnt."""

import pytest
import torch

from cips3d.data.heads import sample_parameters
from cips3d.metrics import identity
from cips3d.metrics.identity import (
    ATTRIBUTES,
    identity_cosines,
    measure_head_identity,
    measure_identity,
    true_attributes,
)


def test_cosines_of_kept_lost_and_turned_features():
    head, pose = torch.randn(64, 20), 5 * torch.randn(3, 20)
    kept = identity_cosines([head + shift for shift in pose])  # what all heads share in a pose says nothing
    assert kept[0] == pytest.approx(1, abs=1e-5) and abs(kept[1]) < 0.05
    assert abs(identity_cosines([torch.randn(64, 20) for _ in range(3)])[0]) < 0.1
    assert identity_cosines([head, -head])[0] == pytest.approx(-1, abs=1e-5)


def test_a_turning_ball_keeps_more_than_a_flipping_one(painted_ball, flipping_ball):
    turning, flipping = (measure_identity(model, 8) for model in (painted_ball, flipping_ball))
    assert turning.same > flipping.same and turning.same > turning.different + 0.5
    assert turning.extractor == "cips3d-small" and not turning.kept


class Population:
    """Synthetic heads by name and seed; the pictures are made here."""

    name, seed = "synthetic-heads", 3


def test_attributes_are_learnt_and_a_flip_turns_the_side(monkeypatch, painted_ball):
    """Pictures that are bright on the side of the hair."""
    truth = true_attributes(Population, 640)
    assert truth[5].tolist() == pytest.approx([read(sample_parameters(3, 5)) for read in ATTRIBUTES.values()])

    def pictures(numbers):
        images = torch.zeros(len(numbers), 3, 8, 8)
        images[..., :4] = -numbers[:, :1, None, None]
        images[..., 4:] = numbers[:, :1, None, None]
        return images

    seen = pictures(true_attributes(Population, 32))
    for last, side in ((seen, 1.0), (seen.flip(-1), -1.0)):
        monkeypatch.setattr(identity, "_views", lambda *_, last=last: [seen, seen, last])
        found = measure_head_identity(painted_ball, pictures(truth), Population, 32, epochs=4)
        assert found.learnt["hair side"] > 0.95 and found.kept["hair side"] * side > 0.9
        assert found.same == pytest.approx(1 if side > 0 else -1 / 3, abs=0.05)  # two of three pairs are opposites
    assert found.extractor == "attributes of synthetic-heads" and abs(found.different) < 0.1
