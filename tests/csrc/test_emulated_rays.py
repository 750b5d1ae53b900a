"""The CUDA kernels of volume_render, sample_pdf and merge_samples on the emulator, against float64 references."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cips3d_ext import reference
from cips3d_ext.reference.volume_render import VolumeRenderOptions
from cips3d_ext.testing import assert_close

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INPUTS = ("density", "features", "depths", "noise", "beta", "ray_norm")
GRADIENTS = ("density", "features", "depths", "beta", "ray_norm")  # bits of grad_mask, in this order
OUTPUTS = ("feature", "depth", "weights", "transmittance", "accumulation")
Shape = tuple[int, int, int, int | None]  # B, R, S, C; C None: no features
ALL = 2 ** len(GRADIENTS) - 1
EVERY_INPUT = {"noise", "beta", "ray_norm"}

# Ray lengths around the warp's 32 lanes, channels around its vectors and slabs; options of the public integrators.
CASES: dict[str, tuple[Shape, set[str], dict[str, Any]]] = {
    "one sample": ((1, 1, 1, 1), set(), {"last_delta": 0.5}),
    "cips3d": ((2, 3, 24, 32), {"noise"}, {}),
    "cips3d many rays": ((3, 11, 5, 8), {"noise"}, {}),
    "pi-gan": ((1, 3, 33, 3), {"noise"}, {"last_back": True, "white_channels": -1}),
    "eg3d": ((1, 3, 33, 32), set(), {
        "rule": "midpoint", "activation": "softplus", "shift": -1.0, "depth_mode": "expected", "white_channels": -1,
        "feature_scale": 2.0, "feature_shift": -1.0}),
    "midpoint last_back": ((1, 2, 65, 35), EVERY_INPUT, {
        "rule": "midpoint", "activation": "sdf", "last_back": True, "white_channels": 7, "depth_mode": "expected"}),
    "midpoint two samples": ((1, 2, 2, 5), {"ray_norm"}, {"rule": "midpoint", "last_back": True}),
    "stylesdf": ((1, 3, 24, 259), EVERY_INPUT, {"activation": "sdf", "last_back": True, "feature_shift": -1.0}),
    "softplus beta": ((3, 7, 9, 2), EVERY_INPUT, {"activation": "softplus", "last_delta": 0.3, "trans_eps": 0.0}),
    "stylenerf": ((1, 3, 14, 37), {"ray_norm"}, {"norm_last": False, "last_alpha": 1.0}),
    "volumegan far": ((1, 2, 70, 512), set(), {"activation": "softplus", "far": 10.0}),
    "volumegan no_dist": ((1, 2, 34, 136), {"ray_norm"}, {"activation": "none", "unit_delta": True, "shift": 0.3}),
    "weights alone": ((1, 3, 70, None), {"beta"}, {"activation": "softplus", "last_delta": 0.1}),
    "expected": ((1, 2, 40, 6), {"ray_norm"}, {"depth_mode": "expected", "far": 11.0, "last_back": True}),
}  # fmt: skip


def make_inputs(
    shape: tuple[int, int, int, int | None], extra: set[str], dtype: torch.dtype
) -> dict[str, Tensor | None]:
    B, R, S, C = shape
    generator = torch.Generator().manual_seed(S)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    density = normal(B, R, S)
    steps = 0.2 + torch.rand(B, R, S, generator=generator, dtype=torch.float64)
    steps *= min(1.0, 8 / S)  # some light reaches the end of long rays: transmittance keeps its digits in float16
    made = {
        "density": density + 0.1 * density.sign(),  # away from relu's kink
        "features": None if C is None else normal(B, R, S, C),
        "depths": steps.cumsum(-1),
        "noise": 0.05 * torch.tanh(normal(B, R, S)),
        "beta": torch.full((1,), 0.7, dtype=torch.float64),
        "ray_norm": 1 + torch.rand(B, R, generator=generator, dtype=torch.float64),
    }
    absent = EVERY_INPUT - extra
    return {n: None if t is None or n in absent else t.to(dtype) for n, t in made.items()}


def emulated_render(emulated, inputs: dict[str, Tensor | None], options: dict[str, Any]) -> tuple[Tensor, ...]:
    arguments = [inputs[n] for n in INPUTS] + list(VolumeRenderOptions(**options))
    return emulated.in_all_schedules(emulated.ops.volume_render, *arguments)


def emulated_gradients(emulated, cotangents, inputs, options: dict[str, Any], mask: int = ALL) -> tuple[Tensor, ...]:
    arguments = [inputs[n] for n in INPUTS] + list(VolumeRenderOptions(**options))
    return emulated.in_all_schedules(emulated.ops.volume_render_backward, *cotangents, *arguments, mask)


def random_cotangents(outputs: tuple[Tensor, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]


def expected_gradients(inputs, options: dict[str, Any], cotangents) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Outputs and input gradients of the float64 reference at the same (rounded) inputs and cotangents."""
    wide = {n: None if t is None else t.double().requires_grad_() for n, t in inputs.items()}
    outputs = reference.volume_render(*(wide[n] for n in INPUTS), **options)
    used = [(o, c.double()) for o, c in zip(outputs, cotangents, strict=True) if c is not None and o.requires_grad]
    names = [n for n in GRADIENTS if wide[n] is not None]
    leaves = [wide[n] for n in names]
    gradients = torch.autograd.grad([o for o, _ in used], leaves, [c for _, c in used], materialize_grads=True)
    return outputs, dict(zip(names, gradients, strict=True))


def assert_gradients(
    actual: tuple[Tensor, ...], expected: dict[str, Tensor], dtype: torch.dtype, what: str = ""
) -> None:
    for name, gradient in zip(GRADIENTS, actual, strict=True):
        assert gradient.dtype == dtype and gradient.is_contiguous()
        if name in expected:
            assert_close(gradient, expected[name], dtype, f"{what} gradient of {name}")
        else:
            assert gradient.shape == (0,), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_volume_render(emulated, case, dtype):
    shape, extra, options = CASES[case]
    inputs = make_inputs(shape, extra, dtype)
    actual = emulated_render(emulated, inputs, options)
    cotangents = random_cotangents(actual)
    outputs, gradients = expected_gradients(inputs, options, cotangents)
    for name, output, wanted in zip(OUTPUTS, actual, outputs, strict=True):
        assert output.dtype == dtype and output.is_contiguous()
        assert_close(output, wanted, dtype, name)
    assert_gradients(emulated_gradients(emulated, cotangents, inputs, options), gradients, dtype)


@pytest.mark.parametrize("case", ["eg3d", "midpoint last_back", "weights alone", "pi-gan"])
def test_gradients_one_by_one(emulated, case):
    """Each output's gradient alone, and each input's alone: the same as when all are there."""
    shape, extra, options = CASES[case]
    inputs = make_inputs(shape, extra, torch.float64)
    cotangents = random_cotangents(emulated_render(emulated, inputs, options))
    for position, output in enumerate(OUTPUTS):
        alone = [c if i == position else None for i, c in enumerate(cotangents)]
        gradients = expected_gradients(inputs, options, alone)[1]
        assert_gradients(emulated_gradients(emulated, alone, inputs, options), gradients, torch.float64, output)
    everything = emulated_gradients(emulated, cotangents, inputs, options)
    for position, name in enumerate(GRADIENTS):
        only = emulated_gradients(emulated, cotangents, inputs, options, 1 << position)
        assert torch.equal(only[position], everything[position]), name
        assert all(g.shape == (0,) for i, g in enumerate(only) if i != position), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_opaque_and_empty_rays(emulated, dtype):
    """Densities from 1e-3 to 2000 before an infinite last interval, and rays that hit nothing: no NaN anywhere."""
    inputs = make_inputs((1, 6, 24, 8), set(), dtype)
    inputs["density"] *= torch.tensor([1e-3, 1.0, 2000.0, -1.0, 50.0, 1.0], dtype=dtype).view(1, 6, 1)
    inputs["density"][:, 3] = -1.0  # empty
    inputs["density"][:, 5, :-1] = -1.0  # only the infinite interval is hit
    inputs["density"][:, 5, -1] = 2.0
    for options in ({}, {"depth_mode": "expected"}, {"trans_eps": 0.0}):
        actual = emulated_render(emulated, inputs, options)
        cotangents = random_cotangents(actual)
        outputs, gradients = expected_gradients(inputs, options, cotangents)
        for name, output, wanted in zip(OUTPUTS, actual, outputs, strict=True):
            assert_close(output, wanted, dtype, name)
        assert actual[1].isinf().sum() == (1 if "depth_mode" in options else 0)
        found = emulated_gradients(emulated, cotangents, inputs, options)
        assert all(g.isfinite().all() for g in found)
        assert (found[0][..., -1] == 0).all()
        if "trans_eps" not in options:  # autograd of the reference's product divides by its zeros
            assert_gradients(found, gradients, dtype)


def test_unaligned_features_take_the_scalar_path(emulated):
    """32 channels that start 4 bytes behind a multiple of 16: the same numbers as aligned ones."""
    inputs = make_inputs((1, 3, 24, 32), set(), torch.float32)
    aligned = emulated_render(emulated, inputs, {})
    cotangents = random_cotangents(aligned)
    shifted = torch.empty(inputs["features"].numel() + 1)[1:].view(inputs["features"].shape)
    moved = inputs | {"features": shifted.copy_(inputs["features"])}
    for actual, wanted in zip(emulated_render(emulated, moved, {}), aligned, strict=True):
        assert_close(actual, wanted, torch.float32, "output")
    wanted_gradients = emulated_gradients(emulated, cotangents, inputs, {})
    for actual, wanted in zip(emulated_gradients(emulated, cotangents, moved, {}), wanted_gradients, strict=True):
        assert_close(actual, wanted, torch.float32, "gradient")


@pytest.mark.parametrize("width", [3, 32], ids="{} channels".format)
@pytest.mark.parametrize("beside", [1, 4], ids="{} beside".format)
def test_features_in_wider_rows(emulated, width, beside):
    """A slice of rows that hold densities beside the features gives what its copy gives."""
    inputs = make_inputs((2, 3, 5, width), set(), torch.float32)
    wider = torch.cat([inputs["features"], torch.full((2, 3, 5, beside), torch.nan)], -1)
    sliced = inputs | {"features": wider[..., :width]}
    wanted = emulated_render(emulated, inputs, {})
    for actual, output in zip(emulated_render(emulated, sliced, {}), wanted, strict=True):
        assert_close(actual, output, torch.float32, "output")
    cotangents = random_cotangents(wanted)
    found = [emulated_gradients(emulated, cotangents, given, {}) for given in (sliced, inputs)]
    for actual, gradient in zip(*found, strict=True):
        assert_close(actual, gradient, torch.float32, "gradient")


def test_no_rays(emulated):
    inputs = make_inputs((2, 0, 4, 3), {"beta"}, torch.float32)
    outputs = emulated_render(emulated, inputs, {})
    assert [list(o.shape) for o in outputs] == [[2, 0, 3], [2, 0], [2, 0, 4], [2, 0], [2, 0]]
    gradients = emulated_gradients(emulated, outputs, inputs, {})
    assert gradients[1].shape == (2, 0, 4, 3) and gradients[3].tolist() == [0.0]


def test_too_many_samples_for_the_backward_kernel(emulated):
    inputs = dict.fromkeys(INPUTS) | {n: torch.zeros(1, 1, 20000) for n in ("density", "depths")}
    with pytest.raises(RuntimeError, match=r"at most \d+ samples a ray .* got density \[1,1,20000\]; use impl"):
        emulated_gradients(emulated, [None] * 5, inputs, {})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize(
    ("rays", "bins", "weights", "n"),
    [(1, 2, 1, 3), (19, 11, 10, 12), (3, 47, 45, 48), (2, 34, 33, 1), (2, 99, 96, 70)],
)
def test_sample_pdf(emulated, rays, bins, weights, n, right, dtype):
    generator = torch.Generator().manual_seed(bins)
    edges = (0.1 + torch.rand(rays, bins, generator=generator)).cumsum(-1).to(dtype)
    density = torch.rand(rays, weights, generator=generator).to(dtype)
    u = torch.rand(rays, n, generator=generator).to(dtype)
    actual = emulated.in_all_schedules(emulated.ops.sample_pdf, edges, density, u, 1e-5, right)
    expected = reference.sample_pdf(edges.double(), density.double(), u.double(), right=right)
    assert_close(actual, expected, dtype, "depths")


@pytest.mark.parametrize("right", [False, True])
def test_sample_pdf_ties(emulated, right):
    """u on the edges of an exact distribution, and in an interval narrower than eps: searchsorted's own answers."""
    bins = torch.tensor([[0.0, 1.0, 3.0, 4.0, 8.0, 9.0]])
    weights = torch.tensor([[1.0, 2.0, 0.0, 1.0]])
    u = torch.tensor([[0.0, 0.25, 0.5, 0.75, 0.875, 1.0]])
    actual = emulated.in_all_schedules(emulated.ops.sample_pdf, bins, weights, u, 1e-9, right)
    assert torch.equal(actual, reference.sample_pdf(bins, weights, u, eps=1e-9, right=right))
    narrow = emulated.ops.sample_pdf(bins, torch.tensor([[1.0, 0.0, 0.0, 3.0]]), torch.tensor([[0.2504]]), 1e-3, right)
    assert narrow.item() == pytest.approx(3.0, abs=1e-3)  # not spread over the interval from 3 to 4


def test_sample_pdf_without_samples(emulated):
    assert emulated.ops.sample_pdf(torch.rand(3, 4), torch.rand(3, 3), torch.rand(3, 0), 1e-5, False).shape == (3, 0)
    assert emulated.ops.sample_pdf(torch.rand(0, 4), torch.rand(0, 3), torch.rand(0, 2), 1e-5, False).shape == (0, 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rays", "a", "b", "channels"), [(1, 1, 0, 1), (19, 12, 12, 32), (2, 48, 33, 35), (3, 0, 5, 6)]
)
def test_merge_samples(emulated, rays, a, b, channels, dtype):
    generator = torch.Generator().manual_seed(a)
    z_a, z_b = (torch.randint(0, 20, (rays, s), generator=generator).to(dtype) for s in (a, b))  # with ties
    z, order = emulated.in_all_schedules(emulated.ops.merge_samples, z_a, z_b)
    expected_z, expected_order = reference.merge_samples(z_a, z_b)
    assert torch.equal(z, expected_z) and torch.equal(order, expected_order)

    f_a, f_b = (torch.randn(rays, s, channels, generator=generator).to(dtype) for s in (a, b))
    merged = emulated.in_all_schedules(emulated.ops.merge_samples_gather, f_a, f_b, order)
    assert torch.equal(merged, reference.merge_samples_gather(f_a, f_b, order))
    back = emulated.in_all_schedules(emulated.ops.merge_samples_scatter, merged, order, a)
    assert torch.equal(back[0], f_a) and torch.equal(back[1], f_b)


def test_merge_samples_places_nan_last(emulated):
    z_a, z_b = torch.tensor([[2.0, torch.nan, -torch.inf]]), torch.tensor([[torch.nan, torch.inf, 2.0]])
    z, order = emulated.ops.merge_samples(z_a, z_b)
    expected_z, expected_order = reference.merge_samples(z_a, z_b)
    assert torch.equal(order, expected_order) and torch.equal(z.nan_to_num(9.0), expected_z.nan_to_num(9.0))


def test_merge_samples_without_rays_or_channels(emulated):
    z, order = emulated.ops.merge_samples(torch.rand(0, 3), torch.rand(0, 2))
    assert z.shape == order.shape == (0, 5)
    order = torch.arange(5).expand(2, 5)
    assert emulated.ops.merge_samples_gather(torch.rand(2, 3, 0), torch.rand(2, 2, 0), order).shape == (2, 5, 0)
