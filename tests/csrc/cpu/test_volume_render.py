"""volume_render's CPU kernels at each SIMD level: awkward sizes, every option and dtype, threads, extreme densities."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cips3d_ext import reference
from cips3d_ext.reference.volume_render import VolumeRenderOptions

from ._compare import assert_close

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
EVERY_EXTRA = ("noise", "beta", "ray_norm")
GRADIENTS = ("density", "features", "depths", "beta", "ray_norm")  # bits of grad_mask
OUTPUTS = ("feature", "depth", "weights", "transmittance", "accumulation")
ALL = (1 << len(GRADIENTS)) - 1

# (B, R, S, C): rays around the 2 to 16 lanes and the shares of 16, channels around the vectors; C None: no features.
CASES: dict[str, tuple[tuple[int, int, int, int | None], tuple[str, ...], dict[str, Any]]] = {
    "one sample": ((1, 1, 1, 1), (), {"last_delta": 0.5}),
    "cips3d": ((2, 17, 24, 32), ("noise",), {}),
    "pi-gan": ((1, 33, 5, 3), ("noise",), {"last_back": True, "white_channels": -1}),
    "eg3d": ((1, 19, 7, 35), (), {
        "rule": "midpoint", "activation": "softplus", "shift": -1.0, "depth_mode": "expected", "white_channels": -1,
        "feature_scale": 2.0, "feature_shift": -1.0}),
    "midpoint last_back": ((1, 3, 6, 37), EVERY_EXTRA, {
        "rule": "midpoint", "activation": "sdf", "last_back": True, "white_channels": 20, "depth_mode": "expected"}),
    "midpoint two samples": ((2, 1, 2, 5), ("ray_norm",), {"rule": "midpoint", "last_back": True, "last_alpha": 0.5}),
    "stylesdf": ((1, 5, 9, 259), EVERY_EXTRA, {"activation": "sdf", "last_back": True, "feature_shift": -1.0}),
    "softplus beta": ((3, 7, 9, 2), EVERY_EXTRA, {"activation": "softplus", "last_delta": 0.3, "trans_eps": 0.0}),
    "stylenerf": ((1, 16, 14, 48), ("ray_norm",), {"norm_last": False, "last_alpha": 1.0}),
    "far": ((2, 9, 4, 65), ("ray_norm",), {"activation": "softplus", "far": 10.0, "norm_last": False}),
    "no_dist": ((1, 4, 34, 130), ("ray_norm",), {"activation": "none", "unit_delta": True, "shift": 0.3}),
    "weights alone": ((1, 3, 70, None), ("beta",), {"activation": "softplus", "last_delta": 0.1}),
    "no channels": ((1, 3, 5, 0), (), {"depth_mode": "expected", "last_back": True}),
    "no rays": ((2, 0, 5, 3), EVERY_EXTRA, {"activation": "sdf"}),
}  # fmt: skip


def make_inputs(case: str, dtype: torch.dtype) -> dict[str, Tensor | None]:
    (B, R, S, C), extras, _ = CASES[case]
    generator = torch.Generator().manual_seed(S)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    density = normal(B, R, S)
    steps = 0.2 + torch.rand(B, R, S, generator=generator, dtype=torch.float64)
    made = {
        "density": density + 0.1 * density.sign(),  # away from relu's kink
        "features": None if C is None else normal(B, R, S, C),
        "depths": (min(1.0, 8 / S) * steps).cumsum(-1),  # some light reaches the end: digits for float16
        "noise": 0.05 * torch.tanh(normal(B, R, S)),
        "beta": torch.full((1,), 0.7, dtype=torch.float64),
        "ray_norm": 1 + torch.rand(B, R, generator=generator, dtype=torch.float64),
    }
    absent = set(EVERY_EXTRA) - set(extras)
    return {n: None if t is None or n in absent else t.to(dtype) for n, t in made.items()}


def render(inputs: dict[str, Tensor | None], options: dict[str, Any]) -> tuple[Tensor, ...]:
    return torch.ops.cips3d_ext.volume_render(*inputs.values(), *VolumeRenderOptions(**options))


def gradients(cotangents, inputs, options: dict[str, Any], mask: int = ALL) -> tuple[Tensor, ...]:
    backward = torch.ops.cips3d_ext.volume_render_backward
    return backward(*cotangents, *inputs.values(), *VolumeRenderOptions(**options), mask)


def random_cotangents(outputs: tuple[Tensor, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_equals_reference(cpu_level, case, dtype):
    options = CASES[case][2]
    inputs = make_inputs(case, dtype)
    wide = {n: None if t is None else t.double().requires_grad_() for n, t in inputs.items()}
    wanted = reference.volume_render(*wide.values(), **options)
    found = render(inputs, options)
    for name, output, expected in zip(OUTPUTS, found, wanted, strict=True):
        assert_close(output, expected.detach(), dtype, name)

    cotangents = random_cotangents(found)
    differentiable = [(w, c.double()) for w, c in zip(wanted, cotangents, strict=True) if w.requires_grad]
    names = [n for n in GRADIENTS if wide[n] is not None]
    outputs, grads = zip(*differentiable, strict=True)
    expected = torch.autograd.grad(outputs, [wide[n] for n in names], grads, materialize_grads=True)
    found_grads = dict(zip(GRADIENTS, gradients(cotangents, inputs, options), strict=True))
    for name, gradient in zip(names, expected, strict=True):
        assert_close(found_grads.pop(name), gradient, dtype, f"gradient of {name}")
    assert all(g.shape == (0,) for g in found_grads.values())


@pytest.mark.parametrize("case", ["eg3d", "midpoint last_back", "pi-gan", "weights alone"])
def test_gradients_one_by_one(cpu_level, case):
    """Gradients of absent outputs count as zero, and each input's alone is what it is among all."""
    options = CASES[case][2]
    inputs = make_inputs(case, torch.float64)
    cotangents = random_cotangents(render(inputs, options))
    complete = gradients(cotangents, inputs, options)
    alone = [gradients([c if i == k else None for k, c in enumerate(cotangents)], inputs, options) for i in range(5)]
    for index, whole in enumerate(complete):
        assert_close(sum(parts[index] for parts in alone), whole, torch.float64, f"sum of parts {index}")
        one = gradients(cotangents, inputs, options, 1 << index)
        assert torch.equal(one[index], whole)
        assert all(g.shape == (0,) for k, g in enumerate(one) if k != index)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("case", ["pi-gan", "cips3d", "eg3d", "stylesdf"])
def test_threads_give_the_same_bits(cpu_level, one_and_two_threads, case, dtype):
    """Neighbouring shares are written by different threads, with whole vectors up to the last ray of each."""
    options = CASES[case][2]
    inputs = make_inputs(case, dtype)
    inputs = {n: t if t is None or n == "beta" else t.repeat(3, *[1] * (t.dim() - 1)) for n, t in inputs.items()}
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        outputs = render(inputs, options)
        grads = gradients(random_cotangents(outputs), inputs, options)
        again = gradients(random_cotangents(outputs), inputs, options)
        assert all(torch.equal(a, b) for a, b in zip(grads, again, strict=True))
        results.append([*outputs, *grads])
    for index, (one, two) in enumerate(zip(*results, strict=True)):
        if index == len(OUTPUTS) + GRADIENTS.index("beta"):
            assert_close(two, one.double(), dtype, "beta's gradient is summed by thread")
        else:
            assert torch.equal(one, two)


@pytest.mark.parametrize("channels", (32, 48, 35), ids=str)
def test_large_feature_gradient(cpu_level, channels):
    """4 MB and more: written past the caches where rows are whole vectors."""
    generator = torch.Generator().manual_seed(0)
    density, features = torch.rand(1, 1500, 24, generator=generator), torch.randn(1, 1500, 24, channels)
    inputs = dict.fromkeys(("density", "features", "depths", "noise", "beta", "ray_norm"))
    inputs |= {"density": density, "features": features, "depths": torch.linspace(0, 1, 24).expand(1, 1500, 24)}
    outputs = render(inputs, {})
    grad = torch.randn(outputs[0].shape, generator=generator)
    found = gradients([grad, None, None, None, None], inputs, {})[1]
    assert_close(found, (outputs[2].unsqueeze(-1) * grad.unsqueeze(-2)).double(), torch.float32, "grad_features")


def extreme_inputs(dtype: torch.dtype) -> dict[str, Tensor | None]:
    """Rays that are empty, opaque at once, opaque at the end, and just touched (0 < density < 1e-8) at the end."""
    density = torch.tensor([[-1.0, -1, -1, -1], [1e30, 1e30, 1e30, 1e30], [-1, -1, -1, 5], [0, 0, 0, 1e-12]])
    features = torch.arange(4 * 4 * 3.0).reshape(1, 4, 4, 3)
    depths = torch.linspace(0.9, 1.1, 4).expand(1, 4, 4)
    given = {"density": density[None], "features": features, "depths": depths}
    inputs = {n: given.get(n) for n in ("density", "features", "depths", "noise", "beta", "ray_norm")}
    return {n: None if t is None else t.to(dtype) for n, t in inputs.items()}


@pytest.mark.parametrize("options", [{}, {"trans_eps": 0.0}, {"last_back": True, "white_channels": -1}], ids=str)
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
def test_extreme_densities(cpu_level, dtype, options):
    inputs = extreme_inputs(dtype)
    outputs = render(inputs, options)
    assert all(o.isfinite().all() for o in outputs)
    for name, output, wanted in zip(
        OUTPUTS, outputs, reference.volume_render(*inputs.values(), **options), strict=True
    ):
        torch.testing.assert_close(output, wanted, msg=name)
    grads = gradients(random_cotangents(outputs), inputs, options)
    assert all(g.isfinite().all() for g in grads)
    assert (grads[0][..., -1] == 0).all()  # behind it lies infinity: its opacity is a switch
    assert (grads[0][0, 1] == 0).all()  # opaque: nothing changes


def test_expected_depth_of_an_empty_ray_is_infinite(cpu_level):
    options = {"depth_mode": "expected"}
    inputs = extreme_inputs(torch.float32)
    outputs = render(inputs, options)
    assert outputs[1][0, 0] == torch.inf and outputs[1][0, 1:].isfinite().all()
    assert all(g.isfinite().all() for g in gradients(random_cotangents(outputs), inputs, options))


def test_small_opacities_keep_their_digits(cpu_level):
    """alpha = -expm1(-x): 1 - exp(-x) would be 0 here."""
    inputs = extreme_inputs(torch.float32)
    inputs["density"] = torch.full_like(inputs["density"], 1e-8)
    weights = render(inputs, {"last_delta": 0.1})[2]
    delta = torch.cat([inputs["depths"].diff(dim=-1), torch.full((1, 4, 1), 0.1)], -1)
    torch.testing.assert_close(weights, 1e-8 * delta, rtol=1e-6, atol=0)


def test_infinite_features_stay_in_their_sample(cpu_level):
    """Vectors reach over the end of an odd row of channels; what they read there counts for nothing."""
    inputs = make_inputs("pi-gan", torch.float32)
    inputs["features"][0, 7, 3, 0] = torch.inf
    outputs = render(inputs, {})
    others = torch.arange(33) != 7
    assert outputs[0][0, others].isfinite().all() and outputs[0][0, 7, 1:].isfinite().all()
    grads = gradients(random_cotangents(outputs), inputs, {})
    assert grads[0][0, others].isfinite().all() and grads[1].isfinite().all()


def test_activations_far_from_zero(cpu_level):
    """softplus and sdf neither overflow nor lose their derivatives' tails."""
    inputs = extreme_inputs(torch.float32)
    inputs["density"] = torch.tensor([-300.0, -80, -20, -5, 5, 20, 80, 300]).reshape(1, 2, 4).repeat(1, 2, 1)
    for activation in ("softplus", "sdf"):
        options = {"activation": activation, "last_delta": 0.1, "beta_value": 0.5}
        wide = {n: None if t is None else t.double().requires_grad_() for n, t in inputs.items()}
        wanted = reference.volume_render(*wide.values(), **options)
        found = render(inputs, options)
        cotangents = random_cotangents(found)
        expected = torch.autograd.grad(wanted, [wide["density"]], [c.double() for c in cotangents])[0]
        assert_close(found[2], wanted[2].detach(), torch.float32, "weights")
        assert_close(gradients(cotangents, inputs, options)[0], expected, torch.float32, "density")


def test_levels_agree(cpu_level):
    inputs = make_inputs("cips3d", torch.float32)
    found = render(inputs, {})
    torch.ops.cips3d_ext.set_cpu_level("portable")
    for output, portable in zip(found, render(inputs, {}), strict=True):
        assert (output - portable).norm() <= 1e-6 * portable.norm()


def test_features_are_read_where_they_lie(cpu_level):
    """The columns of a network's output behind its density: forward and backward copy nothing."""
    inputs = make_inputs("stylesdf", torch.float32)
    wider = torch.cat([torch.full_like(inputs["features"][..., :1], torch.nan), inputs["features"]], -1)
    wanted = render(inputs, {"activation": "sdf"})
    cotangents = random_cotangents(wanted)
    sliced = inputs | {"features": wider[..., 1:]}
    with torch.profiler.profile() as profile:
        outputs = render(sliced, {"activation": "sdf"})
        found = gradients(cotangents, sliced, {"activation": "sdf"})
    assert "aten::clone" not in {event.name for event in profile.events()}
    for actual, expected in zip(outputs, wanted, strict=True):
        assert torch.equal(actual, expected)
    for actual, expected in zip(found, gradients(cotangents, inputs, {"activation": "sdf"}), strict=True):
        assert torch.equal(actual, expected)
