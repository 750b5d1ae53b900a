"""Cases have true poses and other sides; measures are of them."""

import math

import pytest
import torch

from cips3d.data import to_float
from cips3d.data.heads import HeadPose, render_head, sample_parameters
from cips3d.inversion import InversionSettings
from cips3d.inversion.evaluate import HELD_OUT_POPULATION, MEASURES, NOVEL_VIEWS, Result, cases, evaluate, summary
from cips3d.inversion.optimise import psnr
from cips3d.render import Camera

SHORT = InversionSettings(starts=1, search_steps=1, steps=1, seed=3)


def test_cases_of_the_models_own_pictures(model):
    one, other = cases(model, "generated", 2, 3)
    shape, appearance = (w[1:] for w in model.styles(2, 3))
    camera = Camera.from_angles(other.yaw, other.pitch)
    torch.testing.assert_close(other.image, model.style_views(shape, appearance, camera)["inr"][0])
    yaws = torch.tensor([-0.2, 0.3])
    assert torch.equal(other.turned(yaws), model.turned((shape, appearance), yaws))
    assert not torch.equal(one.image, other.image)


def test_cases_of_heads_that_no_training_saw(model):
    case = list(cases(model, "synthetic-heads", 2, 3))[1]
    parameters = sample_parameters(HELD_OUT_POPULATION + 3, 1)

    def picture(yaw, pitch):
        return to_float(render_head(parameters, HeadPose(yaw, pitch), model.resolution, 3).image)

    assert torch.equal(case.image, picture(case.yaw, case.pitch))
    assert torch.equal(case.turned(torch.tensor([0.25]))[0], picture(math.pi / 2 + 0.25, math.pi / 2))


@pytest.mark.parametrize("source", ["synthetic-heads", "generated"])
def test_measures_are_of_the_pictures(model, source):
    ((row, result),) = evaluate(model, source, 1, SHORT, progress=False)
    assert len(row) == 2 + 2 * NOVEL_VIEWS
    target, image, views, truth = row[0], row[1], row[2 : 2 + NOVEL_VIEWS], row[2 + NOVEL_VIEWS :]
    assert result.psnr == pytest.approx(psnr(image, target))
    assert result.l1 == pytest.approx((image - target).abs().mean().item())
    assert result.novel_psnr == pytest.approx(sum(psnr(a, b) for a, b in zip(views, truth, strict=True)) / NOVEL_VIEWS)
    assert result.copied_psnr == pytest.approx(sum(psnr(target, true) for true in truth) / NOVEL_VIEWS)
    case = next(cases(model, source, 1, 3))  # one start, hardly moved: the error is the pose's own distance
    assert result.yaw_error_deg == pytest.approx(abs(math.degrees(case.yaw - math.pi / 2)), abs=4)


def test_summary():
    results = [Result(10.0, 0.1, 1.0, 2.0, 9.0, 8.0), Result(30.0, 0.3, 5.0, 4.0, 19.0, 9.0)]
    table = summary(results)
    assert tuple(table) == MEASURES
    assert table["psnr"] == {"mean": 20.0, "median": 20.0, "worst": 10.0}
    assert table["yaw_error_deg"] == {"mean": 3.0, "median": 3.0, "worst": 5.0}


@pytest.mark.parametrize(("source", "count"), [("faces", 1), ("generated", 0)])
def test_wrong_cases(model, source, count):
    with pytest.raises(ValueError, match="wanted one of synthetic-heads, generated and a count"):
        cases(model, source, count, 0)
