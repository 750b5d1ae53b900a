"""`accelerate` and `undo` on models: the report, strict, families, look-alikes, calls that fall back, other models."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import cips3d_ext
from tests.drop_in.checks import CountedOps
from tests.drop_in.hosts import cips3d, pigan

ROOT = Path(__file__).resolve().parents[2]


def model() -> nn.Module:
    return nn.ModuleDict({"field": nn.ModuleList([pigan.FiLMLayer(3, 8), pigan.FiLMLayer(8, 8)])})


def inputs(dtype=torch.float32) -> list[torch.Tensor]:
    shapes = ((2, 5, 3), (2, 8), (2, 8))
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def calls(layer: nn.Module, *args, **kwargs) -> int:
    with CountedOps() as counted:
        layer(*args, **kwargs)
    return counted.calls["film_sine"]


def test_report():
    report = cips3d_ext.accelerate(nn.ModuleList([model(), *pigan.look_alikes()]))
    assert [tuple(entry) for entry in report.swapped] == [
        ("0.field.0", "FiLMLayer", "film_sine"),
        ("0.field.1", "FiLMLayer", "film_sine"),
    ]
    assert [entry.name for entry in report.skipped] == ["1", "2", "3"]
    reasons = [entry.reason for entry in report.skipped]
    assert "computes something else" in reasons[0] and "trial call fails" in reasons[1]
    assert "no attribute layer" in reasons[2]
    assert "2 accelerated, 3 not" in str(report) and reasons[0] in str(report)


def test_look_alikes_are_left_alone():
    for layer in pigan.look_alikes():
        cls = type(layer)
        cips3d_ext.accelerate(layer)
        assert type(layer) is cls


def test_what_only_has_the_name_is_not_mentioned():
    """As CIPS-3D's ToRGB, a linear layer without a style: strict asks for what is known alone."""
    network = nn.ModuleList([model(), pigan.stranger()])
    assert len(cips3d_ext.accelerate(network, strict=True).swapped) == 2
    assert type(network[1]).__base__ is nn.Linear


def test_a_users_class_that_inherits_from_a_known_one():
    layer, other = pigan.WarpedFiLMLayer(3, 8, scale=2), pigan.ShiftedFiLMLayer(3, 8)
    report = cips3d_ext.accelerate(nn.ModuleList([layer, other]))
    assert [tuple(entry)[:2] for entry in report.swapped] == [("0", "WarpedFiLMLayer")]
    assert "computes something else" in report.skipped[0].reason and type(other) is pigan.ShiftedFiLMLayer
    assert isinstance(layer, pigan.WarpedFiLMLayer) and calls(layer, *inputs()) == 1
    assert type(pickle.loads(pickle.dumps(layer))) is pigan.WarpedFiLMLayer


def test_verdicts_do_not_depend_on_the_random_state():
    network = nn.ModuleList([*pigan.look_alikes(), cips3d.generator_film_layer()])
    reports = set()
    for seed in range(6):
        torch.manual_seed(seed)
        reports.add(str(cips3d_ext.accelerate(network)))
    assert len(reports) == 1


def test_strict_names_what_is_skipped_and_changes_nothing():
    network = nn.ModuleList([model(), pigan.look_alikes()[0]])
    with pytest.raises(ValueError, match=r"1 \(FiLMLayer\): .*computes something else"):
        cips3d_ext.accelerate(network, strict=True)
    assert type(network[0]["field"][0]) is pigan.FiLMLayer
    assert not cips3d_ext.accelerate(network[0], strict=True).skipped


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, got dict"):
        cips3d_ext.accelerate({})
    with pytest.raises(ValueError, match=r"families must be of .* got \['film'\]"):
        cips3d_ext.accelerate(model(), families={"film"})


def test_families_choose():
    network = model()
    report = cips3d_ext.accelerate(network, families={"modfc"})
    assert report == ([], []) and type(network["field"][0]) is pigan.FiLMLayer
    assert len(cips3d_ext.accelerate(network, families={"film_sine"}).swapped) == 2


def test_idempotent_and_undone():
    network, other = model(), model()
    first = cips3d_ext.accelerate(network)
    classes = [type(layer) for layer in network.modules()]
    assert cips3d_ext.accelerate(network) == first
    assert [type(layer) for layer in network.modules()] == classes
    cips3d_ext.undo(network)
    cips3d_ext.undo(other)  # was not accelerated
    assert [type(layer) for layer in network.modules()] == [type(layer) for layer in other.modules()]
    assert calls(network["field"][0], *inputs()) == 0


def test_the_trial_leaves_no_trace():
    network = model()
    seen = []
    network["field"][0].register_forward_hook(lambda *_: seen.append(1))
    state, values = torch.get_rng_state(), copy.deepcopy(network.state_dict())
    cips3d_ext.accelerate(network)
    assert torch.equal(torch.get_rng_state(), state) and not seen
    assert all(torch.equal(values[key], tensor) for key, tensor in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_training_flag_and_other_models_stay(training):
    network, other = model().train(training), model()
    cips3d_ext.accelerate(network)
    assert all(layer.training is training for layer in network.modules())
    assert calls(other["field"][0], *inputs()) == 0 and calls(network["field"][0], *inputs()) == 1
    assert type(model()["field"][0]) is pigan.FiLMLayer


def test_models_of_other_devices_and_dtypes():
    for network in (model().to("meta"), model().bfloat16(), model().double()):
        parameters = list(network.parameters())
        assert len(cips3d_ext.accelerate(network).swapped) == 2
        assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))
    assert calls(network["field"][0], *inputs(torch.float64)) == 1


def test_calls_that_are_not_covered_run_the_hosts_own_code():
    layer = model()["field"][0]
    host = copy.deepcopy(layer)
    cips3d_ext.accelerate(layer)
    x, freq, phase = inputs()
    for args in ((x, freq[:1], phase), (x, freq.double(), phase), (x[:0], freq[:1], phase[:1])):
        assert calls(layer, *args) == 0
        assert torch.equal(layer(*args), host(*args))
    assert calls(layer, x=x, phase_shift=phase, freq=freq) == 1  # keywords, in any order
    with pytest.raises(TypeError):
        layer(x, freq)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, of forward_ad
def test_transforms_of_functions_run_the_hosts_own_code():
    layer = model()["field"][0]
    host = copy.deepcopy(layer)
    cips3d_ext.accelerate(layer)
    x, freq, phase = inputs()
    for transform in (torch.func.vmap, torch.func.jacrev):
        results = [transform(lambda t, layer=layer: layer(t, freq, phase))(x[None]) for layer in (layer, host)]
        torch.testing.assert_close(*results)
    with forward_ad.dual_level():
        results = [
            forward_ad.unpack_dual(one(forward_ad.make_dual(x, x), freq, phase)).tangent for one in (layer, host)
        ]
    torch.testing.assert_close(*results)


def test_hooks_of_the_inner_layer_are_not_left_out():
    layer = model()["field"][0]
    cips3d_ext.accelerate(layer)
    handle = layer.layer.register_forward_hook(lambda *_: None)
    assert calls(layer, *inputs()) == 0
    handle.remove()
    assert calls(layer, *inputs()) == 1


def test_an_inner_layer_that_is_replaced_later_is_called():
    """As by a low-rank update of a generator that is already accelerated."""

    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    for layer, name, args in (
        (pigan.FiLMLayer(3, 8), "layer", inputs()),
        (cips3d.FiLMLayer(3, 8, 4), "linear", [torch.randn(2, 5, 3), torch.randn(2, 4)]),
    ):
        host = copy.deepcopy(layer)
        cips3d_ext.accelerate(layer)
        for replacement in (Shifted(3, 8), nn.Sequential(nn.Linear(3, 8))):
            setattr(layer, name, replacement)
            setattr(host, name, replacement)
            assert calls(layer, *args) == 0 and torch.equal(layer(*args), host(*args))


def test_a_parametrized_layer_is_left_alone():
    """Its class is made for it; removing the parametrization puts the class below in its place."""
    layer = cips3d.SinStyleMod(3, 8)
    nn.utils.parametrizations.weight_norm(layer)
    assert "parametrized" in cips3d_ext.accelerate(layer).skipped[0].reason
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is cips3d.SinStyleMod and cips3d_ext.accelerate(layer).swapped


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_default_dtype_and_device_of_the_caller_do_not_matter(dtype):
    network = model()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            assert len(cips3d_ext.accelerate(network).swapped) == 2
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_forward_replaced_on_the_instance_stays():
    layer = model()["field"][0]
    layer.forward = lambda *args: "mine"
    assert "replaced on the instance" in cips3d_ext.accelerate(layer).skipped[0].reason
    assert layer(None) == "mine"


def test_torch_compile():
    layer = model()["field"][1]
    cips3d_ext.accelerate(layer)
    x, freq, phase = torch.randn(2, 5, 8), *inputs()[1:]
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, freq, phase), layer(x, freq, phase))


def test_replicas_of_data_parallel_stay_accelerated():
    layer = model()["field"][0]
    cips3d_ext.accelerate(layer)
    assert type(layer._replicate_for_data_parallel()) is type(layer)


def test_subclasses_are_importable_and_shared():
    first, second = model(), model()
    cips3d_ext.accelerate(first)
    cips3d_ext.accelerate(second)
    cls = type(first["field"][0])
    assert cls is type(second["field"][0]) and pickle.loads(pickle.dumps(cls)) is cls
    assert cls.__name__ == "FiLMLayer"


def test_a_saved_model_loads_without_this_package(tmp_path):
    """In another process, where importing cips3d_ext fails."""
    network = model()
    cips3d_ext.accelerate(network)
    args = inputs()
    torch.save({"model": network, "args": args, "out": network["field"][0](*args)}, tmp_path / "model.pt")
    code = (
        "import sys, torch; sys.modules['cips3d_ext'] = None\n"
        f"saved = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        "assert not any(name.startswith('cips3d_ext.') for name in sys.modules)\n"
        "torch.testing.assert_close(saved['model']['field'][0](*saved['args']), saved['out'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_cycles_copy():
    network = model()
    layer = network["field"][0]
    object.__setattr__(layer, "owner", layer)  # as a module that knows its owner, past nn.Module's registry
    cips3d_ext.accelerate(network)
    clone = copy.deepcopy(network)["field"][0]
    assert clone.owner is clone and clone is not layer
    assert pickle.load(io.BytesIO(pickle.dumps(layer))).layer.weight.equal(layer.layer.weight)
