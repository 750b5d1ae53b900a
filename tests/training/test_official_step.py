"""One whole D step and G step against the unmodified official code (tests/fixtures/official-cips3d/README.md)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cips3d.models.official import export_official, load_official, official_gradients
from cips3d.render import Camera, Draws
from cips3d.training.ema import Ema
from cips3d.training.steps import Judge, discriminator_step, generator_step

FIXTURES = Path(__file__).parents[1] / "fixtures" / "official-cips3d"
RESOLUTION, SAMPLES = 16, 4
YAW_STD, PITCH_STD = 0.3, 0.155
# Values are float64 results rounded to float32 (update_over_lr to 4 decimals); float32 tolerances are the README's.
TOLERANCES = {
    torch.float64: {"image": 1e-6, "value": 1e-6, "update": 1e-3, "flipped_share": 0.0},
    torch.float32: {"image": 2e-4, "value": 2e-4, "update": 1e-2, "flipped_share": 0.003},
}


class Archive:
    """One of the fixture's files, with tensors in `dtype`."""

    def __init__(self, name, dtype):
        with np.load(FIXTURES / name, allow_pickle=False) as archive:
            self.arrays, self.dtype = dict(archive), dtype

    def json(self, key):
        return json.loads(bytes(self.arrays[key]))

    def get(self, key):
        if key not in self.arrays:
            return None
        tensor = torch.from_numpy(self.arrays[key])
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor.long()

    def unpack(self, flat, layout):
        pieces = flat.split([math.prod(shape) for _, shape in layout])
        return {name: piece.view(shape) for (name, shape), piece in zip(layout, pieces, strict=True)}

    def weights(self):
        return self.unpack(self.get("weights"), self.json("layout_json"))


class Step:
    """Both networks with the fixture's weights, and the official settings."""

    def __init__(self, dtype):
        self.dtype, self.tolerance = dtype, TOLERANCES[dtype]
        self.files = {name: Archive(f"{name}.npz", dtype) for name in ("generator", "discriminator", "step")}
        self.settings = self.files["step"].json("meta_json")["settings"]
        self.generator = load_official(self.files["generator"].weights())
        self.discriminator = load_official(self.files["discriminator"].weights())

    def get(self, key):
        return self.files["step"].get(key)

    def adam(self, model, lr):
        return torch.optim.Adam(model.parameters(), lr=lr, betas=tuple(map(float, self.settings["betas"])))

    def render(self, part, **options):
        yaw, pitch = self.get(f"{part}/cam_draw").mT * torch.tensor([[YAW_STD], [PITCH_STD]], dtype=self.dtype)
        draws = {"jitter": "jitter", "u": "u", "density_noise_coarse": "noise_coarse", "density_noise": "noise_final"}
        draws |= {"permutation": "perm"}
        return self.generator.render(
            self.get(f"{part}/z_nerf"),
            self.get(f"{part}/z_inr"),
            Camera.from_angles(math.pi / 2 + yaw, math.pi / 2 + pitch),
            resolution=RESOLUTION,
            samples_per_ray=SAMPLES,
            draws=Draws(**{ours: self.get(f"{part}/{key}") for ours, key in draws.items()}),
            density_noise_std=self.settings["nerf_noise"],
            **options,
        )

    def expect(self, actual, key, tolerance="value"):
        wanted, tolerance = self.get(key), self.tolerance[tolerance]
        torch.testing.assert_close(actual.reshape(wanted.shape), wanted, rtol=tolerance, atol=tolerance)

    def expect_moments(self, model, optimizer, letter):
        """Adam's second moments after clipping and the update itself, tensor by tensor in the official layout."""
        layout = self.files["generator" if letter == "G" else "discriminator"].json("layout_json")
        for parameter in model.parameters():  # borrow the gradient export to get official names and layouts
            parameter.grad = optimizer.state[parameter]["exp_avg_sq"] if parameter in optimizer.state else None
        moments = official_gradients(model)
        for (name, _), wanted in zip(layout, self.get(f"{letter}_exp_avg_sq_mean").tolist(), strict=True):
            moment = moments.get(name)
            assert (moment is None) == math.isnan(wanted), name
            if moment is not None:
                assert moment.double().mean().item() == pytest.approx(wanted, rel=10 * self.tolerance["value"]), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_whole_step(dtype):
    step = Step(dtype)
    settings, judge = step.settings, Judge(alpha=1.0, use_aux=True)
    before = {"G": export_official(step.generator), "D": export_official(step.discriminator)}
    ema = Ema(step.generator, settings["ema_decay"], start=0)

    with torch.no_grad():
        fake = step.discriminator.fakes(step.render("d_in"), use_aux=True)
    step.expect(fake, "d_fake", "image")
    d_optimizer = step.adam(step.discriminator, settings["lr_d"])
    d = discriminator_step(
        step.discriminator,
        d_optimizer,
        torch.cat([step.get("real")] * 2),
        fake,
        judge,
        r1_weight=settings["r1_lambda"],
        clip_norm=settings["grad_clip"],
    )
    step.expect(d.real_logits, "d_r_preds")
    step.expect(d.fake_logits, "d_g_preds")
    step.expect(d.r1, "d_r1")
    step.expect(d.loss, "d_loss")
    step.expect(d.grad_norm, "D_total_norm")
    step.expect_moments(step.discriminator, d_optimizer, "D")

    g_optimizer = step.adam(step.generator, settings["lr_g"])
    fake = step.discriminator.fakes(step.render("g_in", grad_rays=settings["grad_points"]), use_aux=True)
    step.expect(fake.detach(), "g_fake", "image")
    g = generator_step(step.generator, step.discriminator, g_optimizer, fake, judge, clip_norm=settings["grad_clip"])
    step.expect(g.fake_logits, "g_preds")
    step.expect(g.loss, "g_loss")
    step.expect(g.grad_norm, "G_total_norm")
    step.expect_moments(step.generator, g_optimizer, "G")

    for letter, model, lr in (("G", step.generator, settings["lr_g"]), ("D", step.discriminator, settings["lr_d"])):
        after = export_official(model)
        update = torch.cat([((after[k] - v) / lr).flatten() for k, v in before[letter].items()])
        off = (update - step.get(f"{letter}_update_over_lr")).abs() > step.tolerance["update"]
        assert off.double().mean().item() <= step.tolerance["flipped_share"]

    ema.update(step.generator, step=1)
    after, averaged = step.generator.state_dict(), ema.module.state_dict()
    start = load_official(before["G"]).state_dict()
    for name, value in averaged.items():
        torch.testing.assert_close(value, 0.999 * start[name] + 0.001 * after[name])
