"""The generator against numbers of the unmodified official code (tests/fixtures/official-cips3d/README.md)."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cips3d.models.official import export_official, load_official, official_gradients
from cips3d.render import Camera, Draws
from cips3d.render.rays import camera_rays

FIXTURES = Path(__file__).parents[1] / "fixtures" / "official-cips3d"
CASES = ["hier_noise", "nohier_straight", "part_grad", "lookat_lastback", "psi07", "yaw_pitch_white"]
WITH_GRADIENTS = CASES[:4]
RESOLUTION, SAMPLES = 6, 6
# The stored values are float64 results rounded to float32; the float32 tolerances are those of the fixture's README.
TOLERANCES = {
    torch.float64: dict.fromkeys(("image", "weights", "camera", "gradient", "norm"), 1e-6),
    torch.float32: {"image": 2e-4, "weights": 1e-4, "camera": 1e-6, "gradient": 1e-4, "norm": 1e-3},
}


class Fixture:
    """generator.npz with tensors in one dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        with np.load(FIXTURES / "generator.npz", allow_pickle=False) as archive:
            self.arrays = dict(archive)
        self.dtype = dtype
        self.layout = json.loads(bytes(self.arrays["layout_json"]))
        self.cases = json.loads(bytes(self.arrays["meta_json"]))["cases"]

    def get(self, key: str) -> torch.Tensor | None:
        if key not in self.arrays:
            return None
        tensor = torch.from_numpy(self.arrays[key])
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor.long()

    def unpack(self, key: str) -> dict[str, torch.Tensor]:
        pieces = self.get(key).split([math.prod(shape) for _, shape in self.layout])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.layout, pieces, strict=True)}

    def camera(self, case: str) -> Camera:
        kwargs = self.cases[case]["kwargs"]
        if "lookat" in case:
            return Camera.look_at(self.get(f"{case}/camera_pos"), self.get(f"{case}/camera_lookup"))
        draw = self.get(f"{case}/cam_draw")
        yaw = kwargs.get("h_mean", math.pi / 2) + kwargs["h_stddev"] * draw[:, 0]
        return Camera.from_angles(yaw, kwargs.get("v_mean", math.pi / 2) + kwargs["v_stddev"] * draw[:, 1])

    def render(self, model, case: str, **changes):
        kwargs = self.cases[case]["kwargs"]
        fields = {"jitter": "jitter", "u": "u", "density_noise_coarse": "noise_coarse"}
        fields |= {"density_noise": "noise_final", "permutation": "perm"}
        options = {
            "resolution": RESOLUTION,
            "samples_per_ray": SAMPLES,
            "hierarchical": kwargs["hierarchical_sample"],
            "draws": Draws(**{ours: self.get(f"{case}/{key}") for ours, key in fields.items()}),
            "density_noise_std": kwargs.get("nerf_noise", 0.0),
            "truncation_psi": kwargs["psi"],
            "last_back": kwargs.get("last_back", False),
            "white_back": kwargs.get("white_back", False),
            "grad_rays": kwargs.get("grad_points"),
        }
        codes = self.get(f"{case}/z_nerf"), self.get(f"{case}/z_inr")
        return model.render(*codes, self.camera(case), **(options | changes))


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def fixture(request):
    return Fixture(request.param)


@pytest.fixture
def model(fixture):
    return load_official(fixture.unpack("weights"))


def close(actual, wanted, tolerance):
    torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance)


def projection(grad):
    flat = grad.double().flatten()
    return (flat * torch.cos(0.37 * torch.arange(len(flat), dtype=torch.float64) + 0.1)).sum().item()


@pytest.mark.parametrize("case", CASES)
def test_images_equal_official(fixture, model, case):
    tolerance = TOLERANCES[fixture.dtype]
    if case == "psi07":
        model.mean_w_shape, model.mean_w_appearance = fixture.get("psi07/avg_w_nerf"), fixture.get("psi07/avg_w_inr")
    out = fixture.render(model, case)
    close(out.image, fixture.get(f"{case}/img"), tolerance["image"])
    close(out.aux_image, fixture.get(f"{case}/aux"), tolerance["image"])
    close(out.depth, fixture.get(f"{case}/depth"), tolerance["weights"])
    close(out.weights, fixture.get(f"{case}/weights"), tolerance["weights"])


@pytest.mark.parametrize("case", CASES)
def test_cameras_and_styles_equal_official(fixture, model, case):
    tolerance = TOLERANCES[fixture.dtype]["camera"]
    camera = fixture.camera(case)
    close(camera.cam2world, fixture.get(f"{case}/cam2world"), tolerance)
    close(camera.pitch_yaw, fixture.get(f"{case}/pitch_yaw"), tolerance)
    w_shape, w_appearance = model.map(fixture.get(f"{case}/z_nerf"), fixture.get(f"{case}/z_inr"))
    tolerance = TOLERANCES[fixture.dtype]["weights"]
    close(w_shape, fixture.get(f"{case}/w_nerf"), tolerance)
    close(w_appearance, fixture.get(f"{case}/w_inr"), tolerance)


@pytest.mark.parametrize("case", WITH_GRADIENTS)
def test_gradients_equal_official(fixture, model, case):
    tolerance = TOLERANCES[fixture.dtype]
    out = fixture.render(model, case)
    loss = (torch.cat([out.image, out.aux_image]) * fixture.get(f"{case}/cotangent")).sum()
    close(loss, fixture.get(f"{case}/loss").squeeze(), tolerance["gradient"])
    loss.backward()
    gradients = official_gradients(model)
    assert list(gradients) == [key for key, _ in fixture.layout]

    wanted = fixture.unpack(f"{case}/grad") if f"{case}/grad" in fixture.arrays else {}
    scale = max((tensor.abs().max().item() for tensor in wanted.values() if not tensor.isnan().any()), default=0.0)
    norms, projections = fixture.arrays[f"{case}/grad_norm"], fixture.arrays[f"{case}/grad_proj"]
    for (key, grad), norm, wanted_projection in zip(gradients.items(), norms, projections, strict=True):
        assert (grad is None) == math.isnan(norm), key
        if grad is None:
            continue
        assert grad.double().norm().item() == pytest.approx(float(norm), rel=tolerance["norm"]), key
        assert projection(grad) == pytest.approx(float(wanted_projection), abs=tolerance["norm"] * float(norm)), key
        if wanted:
            assert (grad - wanted[key]).abs().max().item() < tolerance["gradient"] * scale, key


def test_stages_equal_official(fixture, model):
    """Every layer's output on the first rays, so that a wrong stage is found by its name."""
    tolerance = TOLERANCES[fixture.dtype]["image"]
    seen = {}

    def record(name, rows):
        return lambda _module, _inputs, outputs: seen.update({name: outputs[0][:, :rows]})

    points, pixels, case = 4 * SAMPLES, 16, "nohier_straight"
    rays = camera_rays(fixture.camera(case), RESOLUTION)
    even = torch.linspace(model.config.near, model.config.far, SAMPLES, dtype=fixture.dtype)
    depths = even + (fixture.get(f"{case}/jitter") - 0.5) * (even[1] - even[0])
    x = rays.origins.unsqueeze(2) + depths.unsqueeze(-1) * rays.directions.unsqueeze(2)
    x, w_shape = model.field.point_scale * x.flatten(1, 2), fixture.get(f"{case}/w_nerf")
    for index, layer in enumerate(model.field.layers):
        x = layer(x, w_shape)
        seen[f"film{index}"] = x[:, :points]
    seen["film_rgb"] = model.field.colour(x, w_shape)[:, :points]
    for index, block in enumerate(model.inr.blocks):
        block.register_forward_hook(record(f"block_{4 * 2**index}", pixels))
    fixture.render(model, case)
    assert len(seen) == 12
    for name, output in seen.items():
        close(output, fixture.get(f"{case}/part/{name}"), tolerance)


def test_frozen_nerf_has_no_gradients(fixture, model):
    for parameter in model.nerf_parameters():
        parameter.requires_grad_(False)
    fixture.render(model, "hier_noise").image.sum().backward()
    without = {key for key, grad in official_gradients(model).items() if grad is None}
    frozen = ("siren.", "mapping_network_nerf.", "aux_to_rbg.")
    norms = dict(zip((key for key, _ in fixture.layout), fixture.arrays["hier_noise/grad_norm"], strict=True))
    assert without == {key for key, norm in norms.items() if key.startswith(frozen) or math.isnan(norm)}


def test_export_is_key_for_key(fixture, model, tmp_path):
    state = fixture.unpack("weights")
    exported = export_official(model)
    assert list(exported) == list(state)
    for key, tensor in state.items():
        assert exported[key].dtype == fixture.dtype
        assert torch.equal(exported[key], tensor), key
    torch.save(exported, tmp_path / "generator.pth")
    again = export_official(copy.deepcopy(load_official(tmp_path / "generator.pth")))
    assert all(torch.equal(again[key], tensor) for key, tensor in state.items())


def test_loaded_model(fixture, model):
    assert not model.training and all(p.requires_grad and p.dtype == fixture.dtype for p in model.parameters())
    assert len(model.official.used) == 172 - 42
    assert len(model.official.unused) == 42 and "inr_net.to_rgbs.16.linear.bias" in model.official.unused
    assert "42 kept for export only" in str(model.official)
    half = load_official({key: tensor.half() for key, tensor in fixture.unpack("weights").items()})
    assert {p.dtype for p in half.parameters()} == {torch.float16}
    half.double()
    assert {tensor.dtype for tensor in export_official(half).values()} == {torch.float64}


def test_loading_is_strict(fixture):
    state = fixture.unpack("weights")
    with pytest.raises(ValueError, match="1 missing: siren.final_layer.bias"):
        load_official({key: tensor for key, tensor in state.items() if key != "siren.final_layer.bias"})
    with pytest.raises(ValueError, match="1 unexpected: extra.weight"):
        load_official({**state, "extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"inr_net.network.8.mod1.norm.bias must be \[16\], got \[3\]"):
        load_official({**state, "inr_net.network.8.mod1.norm.bias": torch.zeros(3)})
    with pytest.raises(ValueError, match="neither a generator"):
        load_official({"layer.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="wanted a plain state dict"):
        load_official({"generator": {}})
