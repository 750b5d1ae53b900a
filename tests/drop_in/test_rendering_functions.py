"""The host-shaped rendering functions against the hosts' formulas: numbers, two orders of derivatives, random draws."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from cips3d_ext.drop_in import (
    cips3d_rendering,
    epigraf_rendering,
    pigan_rendering,
    stylenerf_rendering,
    stylesdf_rendering,
    volumegan_rendering,
)
from cips3d_ext.drop_in import eg3d as eg3d_rendering
from cips3d_ext.drop_in import giraffe as giraffe_rendering
from cips3d_ext.drop_in._samples import NotCovered
from cips3d_ext.ops._registry import NATIVE_DEVICES
from cips3d_ext.testing import assert_close
from tests.drop_in.checks import CountedOps, second_derivatives
from tests.drop_in.hosts import cips3d_utils
from tests.drop_in.hosts import eg3d_rendering as eg3d
from tests.drop_in.hosts import epigraf_rendering as epigraf
from tests.drop_in.hosts import giraffe_rendering as giraffe
from tests.drop_in.hosts import pigan_rendering as pigan
from tests.drop_in.hosts import stylenerf_rendering as stylenerf
from tests.drop_in.hosts import stylesdf_rendering as stylesdf
from tests.drop_in.hosts import volumegan_rendering as volumegan

B, R, S, C = 2, 3, 5, 4


@dataclass(frozen=True)
class Case:
    """One call: inputs() gives the tensors (leaves of the graph), options the rest; op, calls: what runs, how often."""

    name: str
    host: Callable[..., Any]
    ours: Callable[..., Any]
    inputs: Callable[[], dict[str, Tensor]]
    op: str
    options: dict[str, Any]
    dtype: torch.dtype = torch.float64  # float32 where the host itself computes nothing else
    derivatives: bool = True
    calls: int = 1


def depths(*shape: int) -> Tensor:
    return 0.5 + torch.rand(shape).sort(-1).values


def rgb_sigma(channels: int) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"rgb_sigma": torch.randn(B, R, S, channels + 1), "z_vals": depths(B, R, S).unsqueeze(-1)}


def samples(*rays: int) -> Callable[[], dict[str, Tensor]]:
    shape = (B, *rays, S)
    z = lambda: depths(*shape).unsqueeze(-1)  # noqa: E731
    return lambda: {"rgbs": torch.randn(*shape, C), "sigmas": torch.randn(*shape, 1), "pts_z": z()}


def marched() -> dict[str, Tensor]:
    z = depths(B, R, S).unsqueeze(-1)
    return {"colors": torch.randn(B, R, S, C), "densities": torch.randn(B, R, S, 1), "depths": z}


def weighed() -> dict[str, Tensor]:
    return {"sigma": torch.randn(B, R, S), "z_vals": depths(B, R, S), "ray_vector": torch.randn(B, R, 3)}


def weighed_without_rays() -> dict[str, Tensor]:
    return {"sigma": torch.randn(B, R, S), "z_vals": depths(B, R, S)}


def surface() -> dict[str, Tensor]:
    shape = (B, 2, 2, S)
    given = {"rgb": torch.randn(*shape, 3), "sdf": torch.randn(*shape, 1), "features": torch.randn(*shape, C)}
    rays = {"z_vals": depths(*shape), "rays_d": torch.randn(B, 2, 2, 3), "pts": torch.randn(*shape, 3)}
    return {**given, **rays, "sigmoid_beta": torch.tensor([0.1])}


def two_sets() -> dict[str, Tensor]:
    given = {}
    for number, count in ((1, S), (2, S + 2)):
        values = depths(B, R, count).unsqueeze(-1), torch.randn(B, R, count, C), torch.randn(B, R, count, 1)
        given |= {f"{name}{number}": v for name, v in zip(("depths", "colors", "densities"), values, strict=True)}
    return given


def pdf() -> dict[str, Tensor]:
    return {"bins": depths(R, S + 1), "weights": torch.rand(R, S)}


def pdf_of_eg3d() -> dict[str, Tensor]:
    return {"bins": depths(R, S + 2), "weights": torch.rand(R, S)}


def planes() -> dict[str, Tensor]:
    return {"plane_features": torch.randn(B, 3, C, 5, 6), "coordinates": 0.4 * torch.randn(B, 7, 3)}


def volume() -> dict[str, Tensor]:
    bounds = torch.tensor([[-0.9, -1.0, -1.1], [1.0, 1.2, 1.1]])
    return {"points": 0.6 * torch.randn(B, 7, 3), "volume": torch.randn(B, C, 3, 4, 5), "bounds": bounds}


def cases() -> list[Case]:
    found = []
    for clamp, white, last in itertools.product(("relu", "softplus"), (False, True), (False, True)):
        options = {"clamp_mode": clamp, "last_back": last}
        name = f"{clamp}-white{int(white)}-last{int(last)}"
        for host, ours, who, extra in (
            (pigan.fancy_integration, pigan_rendering.fancy_integration, "pi-GAN", {"noise_std": 0.3}),
            (cips3d_utils.fancy_integration, cips3d_rendering.fancy_integration, "CIPS-3D", {"dim_rgb": 8}),
        ):
            given = {**options, **extra, "device": torch.device("cpu"), "white_back": white}
            inputs = rgb_sigma(extra.get("dim_rgb", 3))
            found.append(Case(f"{who}-{name}", host, ours, inputs, "volume_render", given))
        given = {**options, "noise_std": 0.3, "white_back_end_idx": 2 * white, "sp_beta": 2.0, "use_inf_depth": last}
        pair = epigraf.fancy_integration, epigraf_rendering.fancy_integration
        found.append(Case(f"EpiGRAF-{name}", *pair, rgb_sigma(C), "volume_render", given))
    pair = pigan.fancy_integration, pigan_rendering.fancy_integration
    for fill in ("debug", "weight"):
        given = {"device": "cpu", "noise_std": 0.0, "clamp_mode": "relu", "fill_mode": fill}
        found.append(Case(f"pi-GAN-{fill}", *pair, rgb_sigma(3), "volume_render", given, torch.float32))
        given = {"noise_std": 0.0, "clamp_mode": "relu", "fill_mode": fill, "use_inf_depth": False}
        functions = epigraf.fancy_integration, epigraf_rendering.fancy_integration
        found.append(Case(f"EpiGRAF-{fill}", *functions, rgb_sigma(C), "volume_render", given))
    pair = volumegan.renderer, volumegan_rendering.renderer
    for name, given in {
        "relu": {"clamp_mode": "relu", "noise_std": 0.3},
        "far": {"clamp_mode": "softplus", "noise_std": 0, "max_depth": 2.0, "white_back": True},
        "no_dist": {"clamp_mode": "mipnerf", "noise_std": 0.3, "render_mode": "no_dist", "last_back": True},
        "debug": {"clamp_mode": "mipnerf", "noise_std": 0.3, "render_mode": "no_dist", "fill_mode": "debug"},
        "weight": {"clamp_mode": "mipnerf", "noise_std": 0.3, "max_depth": 1.6, "fill_mode": "weight"},
    }.items():
        dtype = torch.float32 if name == "debug" else torch.float64  # of the colour that the host paints
        found.append(Case(f"VolumeGAN-{name}", *pair, samples(R), "volume_render", given, dtype))
        found.append(Case(f"VolumeGAN-image-{name}", *pair, samples(2, 2), "volume_render", given, dtype))
    for white in (False, True):
        given = {"rendering_options": {"clamp_mode": "softplus", "white_back": white}}
        pair = eg3d.MipRayMarcher2(), eg3d_rendering.MipRayMarcher2()
        found.append(Case(f"EG3D-white{int(white)}", *pair, marched, "volume_render", given))
    for last in (1e10, 0.0):
        pair = giraffe.Generator().calc_volume_weights, giraffe_rendering.calc_volume_weights
        found.append(Case(f"GIRAFFE-{last}", *pair, weighed, "volume_render", {"last_dist": last}))
        pair = stylenerf.CameraRay().calc_volume_weights, stylenerf_rendering.calc_volume_weights
        for inputs in (weighed, weighed_without_rays):
            name = f"StyleNeRF-{last}-{inputs.__name__}"
            found.append(Case(name, *pair, inputs, "volume_render", {"last_dist": last}))
    pair = stylesdf.Render.volume_integration, stylesdf_rendering.volume_integration_cips3dpp
    for background in (False, True):
        given = {"force_background": background}
        found.append(Case(f"CIPS-3D++-sdf-{int(background)}", *pair, surface, "volume_render", given))
    given = {"with_sdf": False, "raw_noise_std": 0.3}
    found.append(Case("CIPS-3D++-softplus", *pair, surface, "volume_render", given))
    pair = eg3d.ImportanceRenderer().unify_samples, eg3d_rendering.unify_samples
    found.append(Case("EG3D-unify_samples", *pair, two_sets, "merge_samples", {}))
    given = {"plane_axes": eg3d.generate_planes(), "box_warp": 1.5}
    pair = eg3d.sample_from_planes, eg3d_rendering.sample_from_planes
    found.append(Case("EG3D-planes", *pair, planes, "sample_planes", given, torch.float32))
    pair = volumegan.interpolate_feature, volumegan_rendering.interpolate_feature
    found.append(Case("VolumeGAN-volume", *pair, volume, "sample_volume", {}))
    pair = pigan.sample_from_3dgrid, pigan_rendering.sample_from_3dgrid
    inputs = lambda: {"coordinates": 0.6 * torch.randn(B, 7, 3), "grid": torch.randn(1, C, 3, 4, 5)}  # noqa: E731
    found.append(Case("pi-GAN-grid", *pair, inputs, "sample_volume", {}, torch.float32))
    for det in (False, True):
        given = {"N_importance": 7, "det": det}
        kind = "sample_pdf", given, torch.float32, False, int(not det)
        pair = pigan.sample_pdf, pigan_rendering.sample_pdf
        found.append(Case(f"pi-GAN-pdf-{int(det)}", *pair, pdf, *kind))
        pair = eg3d.ImportanceRenderer().sample_pdf, eg3d_rendering.sample_pdf
        found.append(Case(f"EG3D-pdf-{int(det)}", *pair, pdf_of_eg3d, *kind))
    return found


def tensors_of(result: Any) -> dict[str, Tensor]:
    if isinstance(result, Tensor):
        return {"": result}
    items = result.items() if isinstance(result, dict) else enumerate(result)
    return {str(key): value for key, value in items if isinstance(value, Tensor)}


def evaluate(case: Case, function: Callable[..., Any]) -> tuple[Any, dict[str, Tensor | None], Tensor]:
    """The result, derivatives of both orders, the state of the random numbers."""
    torch.manual_seed(1)
    leaves = {name: t.to(case.dtype).requires_grad_(case.derivatives) for name, t in case.inputs().items()}
    torch.manual_seed(2)
    result = function(**leaves, **case.options)
    state = torch.get_rng_state()
    if not case.derivatives:
        return result, {}, state
    generator = torch.Generator().manual_seed(3)
    loss = 0
    for tensor in tensors_of(result).values():
        if tensor.requires_grad:
            loss = loss + (tensor * torch.randn(tensor.shape, generator=generator).to(tensor)).sum()
    sources = list(leaves.values())
    first = torch.autograd.grad(loss, sources, create_graph=True, allow_unused=True, materialize_grads=True)
    found = {f"d{name}": g for name, g in zip(leaves, first, strict=True)}
    curved = [grad.square().sum() for grad in first if grad.requires_grad]
    if curved:
        second = second_derivatives(sum(curved), sources, materialize_grads=True)
        found |= {f"dd{name}": g for name, g in zip(leaves, second, strict=True)}
    return result, found, state


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_gives_the_hosts_numbers_derivatives_and_draws(case):
    wanted, wanted_derivatives, wanted_state = evaluate(case, case.host)
    counted = CountedOps()
    with counted:
        seen, seen_derivatives, state = evaluate(case, case.ours)
    assert counted.calls[case.op] == case.calls or "cpu" not in NATIVE_DEVICES[case.op], counted.calls
    assert torch.equal(state, wanted_state), "other random draws"
    assert type(seen) is type(wanted)
    expected = tensors_of(wanted)
    assert tensors_of(seen).keys() == expected.keys()
    for name, tensor in tensors_of(seen).items():
        assert tensor.dtype == expected[name].dtype and tensor.is_contiguous()
        assert_close(tensor, expected[name], case.dtype, name)
        if case.derivatives:
            tensor[:] = 0  # writable
    for name, tensor in seen_derivatives.items():
        assert_close(tensor, wanted_derivatives.get(name, torch.zeros_like(tensor)), case.dtype, name)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_under_autocast_a_field_of_16_bits_gives_the_hosts_dtype_and_numbers(half):
    """pi-GAN's training: the field under autocast, depths in float32."""
    inputs = rgb_sigma(3)()
    given = {"rgb_sigma": inputs["rgb_sigma"].to(half), "z_vals": inputs["z_vals"]}
    found = []
    for function in (pigan.fancy_integration, pigan_rendering.fancy_integration):
        torch.manual_seed(1)
        with torch.autocast("cpu", half):
            found.append(function(**given, device="cpu", noise_std=0, clamp_mode="softplus"))
    for wanted, seen in zip(*found, strict=True):
        assert seen.dtype == wanted.dtype == torch.float32
        assert_close(seen, wanted, torch.float32, "output")


WRONG = {
    "clamp_mode must be": (pigan_rendering.fancy_integration, rgb_sigma(3), {"clamp_mode": "elu"}),
    "density must be": (pigan_rendering.fancy_integration, rgb_sigma(4), {"clamp_mode": "relu"}),
    "samples in groups": (volumegan_rendering.renderer, samples(R), {"clamp_mode": "relu", "num_per_group": 1}),
    "clamp_mode must be 'softplus'": (eg3d_rendering.march, marched, {"rendering_options": {"clamp_mode": "relu"}}),
    "needs z_vals": (stylenerf_rendering.calc_volume_weights, weighed_without_rays, {"dists": torch.ones(B, R, S)}),
    "mode must be": (eg3d_rendering.sample_from_planes, planes, {"mode": "nearest", "plane_axes": torch.eye(3)[None]}),
    "permutations": (eg3d_rendering.sample_from_planes, planes, {"plane_axes": 2 * torch.eye(3)[None], "box_warp": 1}),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_no_op_covers_is_said_and_draws_nothing(text):
    function, inputs, options = WRONG[text]
    options = {"noise_std": 0.1} | options if function is volumegan_rendering.renderer else options
    given = inputs()
    state = torch.get_rng_state()
    with pytest.raises(NotCovered, match=text):
        function(**given, **options)
    assert torch.equal(torch.get_rng_state(), state)


def test_plane_axes_are_read_anew_after_a_write():
    axes = eg3d.generate_planes()
    assert eg3d_rendering.axis_pairs(axes) == ((0, 1), (0, 2), (2, 0))
    axes.copy_(axes.flip(0))
    assert eg3d_rendering.axis_pairs(axes) == ((2, 0), (0, 2), (0, 1))


@pytest.mark.parametrize("hosts", [(pigan, pigan_rendering), (eg3d.ImportanceRenderer(), eg3d_rendering)])
def test_evenly_spaced_samples_where_nothing_is_seen(hosts):
    """In empty bins, which end the distribution, the last bit decides: every sample is the host's to the bit."""
    rays, steps = 200, 14
    host, ours = hosts
    weights = torch.rand(rays, steps) * (torch.arange(steps) < 9)
    bins = depths(rays, steps + (2 if ours is eg3d_rendering else 1))
    assert torch.equal(ours.sample_pdf(bins, weights, steps, det=True), host.sample_pdf(bins, weights, steps, det=True))
