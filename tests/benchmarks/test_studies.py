"""The studies: what they argue is true of our cameras, and their runs are what the presets allow."""

import distance
import pytest
import tables
import torch
import variants

from cips3d.config.training import load_training
from cips3d.models import GeneratorConfig


@pytest.mark.parametrize("yaw", [0.2, -0.7])
def test_pixels_move_by_their_distance_from_the_axis(yaw):
    config = GeneratorConfig()
    before, after = distance.turned(0.0, config), distance.turned(yaw, config)
    for a, b in zip(before, after, strict=True):  # points, directions
        torch.testing.assert_close((a - b).norm(dim=-1), distance.moved(a, yaw), rtol=1e-4, atol=1e-6)
    points, directions = before
    middle = distance.moved(points, yaw).min()
    assert middle < 1e-6 < distance.moved(directions, yaw).min()


def test_a_fixed_encoding_tells_points_apart_that_a_learnable_one_does_not():
    near = torch.tensor([[0.1, 0.0, 0.0], [0.1, 0.0, 0.02]])
    moves = {}
    for encoding in ("learnable", "fixed"):
        codes = distance.encoded(near, GeneratorConfig(positional_encoding=encoding))
        moves[encoding] = (codes[:, 1] - codes[:, 0]).square().mean().sqrt()
    assert moves["fixed"] > 5 * moves["learnable"]


@pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model, subject in variants.SUBJECTS.items() for name in subject.variants]
)
def test_every_variant_is_another_run(model, name):
    subject = variants.SUBJECTS[model]
    base, config = (load_training(subject.preset, subject.variants[n]) for n in (subject.base, name))
    assert (config == base) == (name == subject.base)


def test_every_variant_is_compared_and_named_once():
    subjects = variants.SUBJECTS.values()
    for subject in subjects:
        compared = {name for study in subject.studies.values() for name in study.variants}
        assert compared == set(subject.variants) - {subject.base}
    for names in ([s.variants for s in subjects], [s.studies for s in subjects]):
        assert len(set().union(*names)) == sum(map(len, names))


def row(variant, seed, value):
    return {"variant": variant, "seed": seed} | dict.fromkeys(tables.NUMBERS, value)


def test_tables_state_an_ordering_only_if_all_seeds_agree():
    base = [row("base", 0, 2.0), row("base", 1, 3.0)]
    apart = [row("no-aux", 0, 4.0), row("no-aux", 1, 5.0)]
    mixed = [row("no-aux", 0, 2.5), row("no-aux", 1, 5.0)]
    said = tables.orderings("base", ["no-aux"], base + apart)
    assert "the base is better in fd_small (INR)" in said and "worse in yaw correlation" in said
    assert "no number is ordered" in tables.orderings("base", ["no-aux"], base + mixed)
    assert tables.orderings("base", ["no-aux"], base + apart[:1]) == ""  # one seed is no evidence
    assert "4.00 / 5.00" in tables.table(["no-aux"], base + apart)
    assert tables.ABSENT in tables.table(["direct"], base)
