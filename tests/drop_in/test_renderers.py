"""`accelerate` on generators whose methods call rendering functions: numbers, draws, and who else is affected."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cips3d_ext
from cips3d_ext.drop_in import _functions
from cips3d_ext.testing import assert_close
from tests.drop_in.checks import CountedOps, second_derivatives
from tests.drop_in.hosts import cips3d_rendering as cips3d
from tests.drop_in.hosts import cips3d_utils
from tests.drop_in.hosts import eg3d_rendering as eg3d
from tests.drop_in.hosts import epigraf_rendering as epigraf
from tests.drop_in.hosts import giraffe_rendering as giraffe
from tests.drop_in.hosts import lookalike_rendering as lookalike
from tests.drop_in.hosts import pigan_rendering as pigan
from tests.drop_in.hosts import stylenerf_rendering as stylenerf
from tests.drop_in.hosts import stylesdf_rendering as stylesdf
from tests.drop_in.hosts import volumegan_rendering as volumegan

B, R, S = 2, 4, 6


@dataclass(frozen=True)
class Model:
    """A generator, what its forward gets, and what of the host's functions it calls (`calls` of the module's CALLS)."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    log: list[str]
    families: dict[str, str]  # path of the object -> its families
    options: dict[str, Any]
    dtype: torch.dtype = torch.float64  # float32 where the host's code holds for that alone

    def run(self, model: nn.Module) -> list[Tensor]:
        torch.manual_seed(4)
        inputs = self.inputs()
        torch.manual_seed(5)
        return flat(model(*inputs, **self.options))


def flat(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    values = result.values() if isinstance(result, dict) else result
    return [value for value in values if isinstance(value, Tensor)]


def z_vals(*rays: int) -> Callable[[], tuple[Tensor]]:
    return lambda: ((0.5 + torch.rand(B, *rays, S).sort(-1).values).unsqueeze(-1),)


def rays(*shape: int) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (0.5 + torch.rand(B, *shape, S).sort(-1).values, torch.rand(B, *shape, 3))


RENDERER = {"renderer": "sample_pdf, sample_planes", "renderer.ray_marcher": "volume_render"}
NERF = {"C": "volume_render", "I": "sample_planes", "V": "sample_pdf"}
MODELS = [
    Model(
        "pi-GAN",
        pigan.ImplicitGenerator3d,
        z_vals(R),
        pigan.CALLS,
        {"": "sample_pdf, volume_render", "siren": "sample_volume"},
        {"clamp_mode": "softplus", "nerf_noise": 0.3, "white_back": True},
        torch.float32,
    ),
    Model("CIPS-3D", cips3d.GeneratorNerfINR, z_vals(R), cips3d_utils.CALLS, {"": "sample_pdf, volume_render"}, {}),
    Model(
        "EG3D",
        eg3d.TriPlaneGenerator,
        tuple,
        eg3d.CALLS,
        RENDERER,
        {"density_noise": 0.3, "white_back": True},
        torch.float32,
    ),
    Model(
        "EG3D-product",
        lambda: eg3d.TriPlaneGenerator(eg3d.ProductDecoder),
        tuple,
        eg3d.CALLS,
        RENDERER,
        {},
        torch.float32,
    ),
    Model(
        "VolumeGAN",
        volumegan.Generator,
        z_vals(2, 2),
        volumegan.CALLS,
        {"renderer": "volume_render", "hierarchical": "sample_pdf, volume_render", "nerf": "sample_volume"},
        {},
    ),
    *(
        Model(
            f"StyleNeRF-{kind}",
            lambda kind=kind: stylenerf.NeRFSynthesisNetwork(kind),
            rays(R),
            stylenerf.CALLS,
            NERF,
            {},
            torch.float32,
        )
        for kind in ("tri_plane", "volume")
    ),
    Model("GIRAFFE", giraffe.Generator, rays(R), giraffe.CALLS, {"": "volume_render"}, {}),
    Model(
        "StyleSDF",
        lambda: stylesdf.VolumeFeatureRenderer(force_background=True),
        rays(2, 2),
        stylesdf.CALLS,
        {"": "volume_render"},
        {"return_eikonal": True},
    ),
    Model(
        "StyleSDF-density",
        lambda: stylesdf.VolumeFeatureRenderer(with_sdf=False, output_features=False, raw_noise_std=0.3),
        rays(2, 2),
        stylesdf.CALLS,
        {"": "volume_render"},
        {},
    ),
    Model("CIPS-3D++", stylesdf.NeRFPlusPlus, rays(R), stylesdf.CALLS, {"": "volume_render"}, {}),
    Model(
        "EpiGRAF",
        epigraf.SynthesisNetwork,
        z_vals(R),
        epigraf.CALLS,
        {"": "sample_pdf, sample_planes, volume_render"},
        {},
        torch.float32,
    ),
]


@pytest.fixture(params=MODELS, ids=lambda model: model.name)
def known(request):
    request.param.log.clear()
    torch.set_default_dtype(request.param.dtype)
    yield request.param
    torch.set_default_dtype(torch.float32)


def derivatives(model: nn.Module, outputs: list[Tensor]) -> list[Tensor | None]:
    """Of a sum over the outputs by the parameters, and of the squares of those."""
    generator = torch.Generator().manual_seed(6)
    loss = sum((o * torch.randn(o.shape, generator=generator).to(o)).sum() for o in outputs)
    parameters = list(model.parameters())
    first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    second = second_derivatives(sum(g.square().sum() for g in first if g is not None), parameters)
    return [*first, *second]


def test_gives_the_hosts_numbers_and_draws_and_calls_none_of_its_functions(known):
    host = known.make()
    ours = copy.deepcopy(host)
    report = cips3d_ext.accelerate(ours)
    assert {entry.name: entry.reason for entry in report.swapped} == known.families and not report.skipped
    wanted, state = known.run(host), torch.get_rng_state()
    assert known.log
    known.log.clear()
    counted = CountedOps()
    with counted:
        seen = known.run(ours)
    assert not known.log, "the host's functions ran"
    assert counted.calls["volume_render"] > 0
    assert torch.equal(torch.get_rng_state(), state), "other random draws"
    for i, (a, b) in enumerate(zip(seen, wanted, strict=True)):
        assert_close(a, b, known.dtype, f"output {i}")
    for i, (a, b) in enumerate(zip(derivatives(ours, seen), derivatives(host, wanted), strict=True)):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b, known.dtype, f"derivative {i}")


def test_other_models_of_the_process_are_as_before(known):
    host, ours = known.make(), known.make()
    before = known.run(host)
    cips3d_ext.accelerate(ours)
    known.run(ours)
    known.log.clear()
    after = known.run(host)
    assert known.log and all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    cips3d_ext.undo(ours)
    known.log.clear()
    known.run(ours)
    assert known.log


def test_a_copy_stays_accelerated_and_a_pickle_is_the_hosts(known):
    model = known.make()
    keys = list(model.state_dict())
    cips3d_ext.accelerate(model)
    assert list(model.state_dict()) == keys
    loaded, copied = pickle.loads(pickle.dumps(model)), copy.deepcopy(model)
    known.log.clear()
    known.run(copied)
    assert not known.log
    known.run(loaded)
    assert known.log
    assert type(model) is type(copied) and isinstance(model, type(loaded))


def test_a_call_that_is_not_covered_runs_the_hosts_function():
    """Here: pi-GAN's own error for a clamp mode that it does not know."""
    model = pigan.ImplicitGenerator3d()
    cips3d_ext.accelerate(model)
    with pytest.raises(TypeError, match="pi-GAN: Need to choose clamp mode"):
        model(*z_vals(R)(), clamp_mode=None, nerf_noise=0)
    renderer = volumegan.Renderer(clamp_mode="relu", num_per_group=S)
    holder = nn.Module()
    holder.renderer = renderer
    cips3d_ext.accelerate(holder)
    given = {
        "rgbs": torch.randn(B, R, S, 3),
        "sigmas": torch.randn(B, R, S, 1),
        "pts_z": z_vals(R)()[0],
        "noise_std": 0,
    }
    volumegan.CALLS.clear()
    renderer(**given)
    assert not volumegan.CALLS
    with pytest.raises(RuntimeError):  # the host's reshape fails for groups smaller than a ray
        renderer(**given, num_per_group=1)
    assert volumegan.CALLS == ["renderer"]


def test_few_points_in_a_large_grid_are_read_by_the_host_on_a_cpu():
    """Bringing all channels of the grid last would cost more than what they read."""
    model = pigan.ImplicitGenerator3d()
    cips3d_ext.accelerate(model)
    for side, calls in ((4, 0), (16, 1)):
        model.siren.grid = nn.Parameter(torch.randn(1, 4, side, side, side))
        pigan.CALLS.clear()
        model.siren(torch.rand(1, 20, 3))
        assert len(pigan.CALLS) == calls


def test_verdicts_on_functions_do_not_depend_on_the_callers_default_device():
    class Generator(pigan.ImplicitGenerator3d):
        """Of another class, since a verdict on a class is kept."""

    _functions._judge.cache_clear()
    model = Generator()
    with torch.device("meta"):
        report = cips3d_ext.accelerate(model)
    assert [entry.reason for entry in report.swapped] == ["sample_pdf, volume_render", "sample_volume"]


def test_methods_behind_decorators_and_families():
    model = pigan.ImplicitGenerator3d()
    cips3d_ext.accelerate(model, families=["sample_pdf"])
    pigan.CALLS.clear()
    model.staged_forward(*z_vals(R)(), clamp_mode="relu", nerf_noise=0)
    assert set(pigan.CALLS) == {"fancy_integration", "sample_from_3dgrid"}
    report = cips3d_ext.accelerate(model)
    assert [entry.reason for entry in report.swapped] == ["sample_pdf, volume_render", "sample_volume"]
    pigan.CALLS.clear()
    model.staged_forward(*z_vals(R)(), clamp_mode="relu", nerf_noise=0)
    assert not pigan.CALLS


def test_only_decoders_that_average_get_the_mean_of_the_planes():
    model = eg3d.TriPlaneGenerator(eg3d.OSGDecoder)
    cips3d_ext.accelerate(model)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    model()
    assert seen == [1, 1]
    model.decoder = eg3d.ProductDecoder(4)
    model.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    model()
    assert seen == [1, 1, 3, 3]


def test_a_decoder_is_tried_without_its_hooks():
    """Tools that list a model's calls, as EG3D's print_module_summary, see the host's calls and no others."""
    seen = []
    for accelerate in (False, True):
        model = eg3d.TriPlaneGenerator(eg3d.OSGDecoder)
        for name, module in model.decoder.named_modules():
            module.register_forward_hook(lambda *_, name=name, mine=accelerate: seen.append((mine, name)))
        if accelerate:
            cips3d_ext.accelerate(model)
        model()
    assert [name for mine, name in seen if mine] == [name for mine, name in seen if not mine]


def test_a_look_alike_stays_and_is_reported():
    model = lookalike.Generator()
    report = cips3d_ext.accelerate(model)
    assert not report.swapped
    reasons = {entry.reason for entry in report.skipped}
    assert reasons == {
        "fancy_integration: it computes something else",
        "sample_pdf: its parameters (bins, weights, count) are not the known ones",
        "renderer: a trial call fails: AssertionError: a GPU is needed",
    }
    assert {entry.cls for entry in report.skipped} == {"Generator"}
    with pytest.raises(ValueError, match="it computes something else"):
        cips3d_ext.accelerate(model, strict=True)


@pytest.mark.parametrize(
    "known", [m for m in MODELS if m.name in ("EG3D", "EpiGRAF")], indirect=True, ids=lambda m: m.name
)
def test_compiles(known):
    """Methods whose copies see views of globals run as the host's under torch.compile, also where a graph breaks."""
    model = known.make()
    cips3d_ext.accelerate(model)
    with torch.no_grad():
        expected = known.run(model)
        for frame in (model, Broken(model)):
            torch.compiler.reset()
            seen = known.run(torch.compile(frame, backend="eager"))
            for value, wanted in zip(seen, expected, strict=True):
                assert_close(value, wanted, known.dtype, "output")


class Broken(nn.Module):
    """A model in a frame that torch.compile leaves alone; it compiles those that the frame calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Tensor, **options: Any) -> Any:
        torch._dynamo.graph_break()
        return self.model(*args, **options)
