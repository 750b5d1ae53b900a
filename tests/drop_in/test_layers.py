"""Every kind of layer: accelerated it gives the host's numbers, draws and gradients, and saves as the host's."""

import copy
import pickle

import pytest
import torch
from torch import nn

import cips3d_ext
from tests.drop_in.cases import CASES
from tests.drop_in.checks import accelerated, assert_same_numbers, tensors_of

FEW_NUMBERS = 3  # largest errors of so few rounded numbers differ by this
each_case = pytest.mark.parametrize("case", CASES, ids=str)


@each_case
def test_numbers_derivatives_and_draws(case):
    host = case.layer()
    assert_same_numbers(case, host, accelerated(host))


@each_case
@pytest.mark.parametrize("grad", [False, True])
def test_outputs_are_contiguous_and_may_be_written(case, grad):
    layer, arguments = accelerated(case.layer()), case.arguments()
    with torch.set_grad_enabled(grad):
        outputs = tensors_of(layer(*arguments, **case.options))[:1]
        for output in outputs:
            assert output.is_contiguous()
            output[..., -1] += 1
            nn.functional.leaky_relu(output, 0.2, inplace=True)
    if grad:
        sum(output.sum() for output in outputs).backward()


@each_case
def test_state_and_class(case):
    host = case.layer()
    ours = accelerated(host)
    assert isinstance(ours, type(host)) and type(ours) is not type(host)
    assert list(ours.state_dict()) == list(host.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in host.named_parameters()]
    assert vars(ours).keys() == vars(host).keys() and repr(ours) == repr(host)
    host.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(host.state_dict(), strict=True)
    cips3d_ext.undo(ours)
    assert type(ours) is type(host)


@each_case
def test_copies_stay_accelerated_and_pickles_do_not(case):
    host = case.layer().eval()  # in training some layers move a running mean on
    ours = accelerated(host)
    arguments = case.arguments()
    torch.manual_seed(3)
    expected = tensors_of(ours(*arguments, **case.options))[0]
    for clone in (copy.deepcopy(ours), copy.copy(ours)):
        assert type(clone) is type(ours)
        torch.manual_seed(3)
        assert torch.equal(tensors_of(clone(*arguments, **case.options))[0], expected)
    assert copy.deepcopy(ours).state_dict().keys() == ours.state_dict().keys()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        text = pickle.dumps(ours, protocol)
        assert b"cips3d_ext" not in text and type(pickle.loads(text)) is type(host)


@each_case
def test_autocast(case):
    """The dtype of the host's result, and numbers as near to the exact ones as the host's own."""
    if not case.float64:
        pytest.skip("the host asserts its dtypes")
    host = case.layer()
    exact = tensors_of(host(*case.arguments(), **case.options))[0]
    arguments = [a.detach().float() if isinstance(a, torch.Tensor) else a for a in case.arguments()]
    host = host.float()
    ours, errors = accelerated(host), []
    for layer in (host, ours):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            result = tensors_of(layer(*arguments, **case.options))[0]
        errors.append((result.double() - exact).abs().max().item())
        if layer is host:
            dtype = result.dtype
    assert result.dtype == dtype
    assert errors[1] <= FEW_NUMBERS * errors[0]


@each_case
def test_hooks_of_all_modules_run(case):
    """A layer whose inner modules have hooks runs as the host's; its own hooks run always."""
    host = case.layer()
    seen = {}
    for name, layer in (("host", host), ("ours", accelerated(host))):
        seen[name] = []
        for path, part in layer.named_modules():
            part.register_forward_hook(lambda *_, path=path, name=name: seen[name].append(path))
        layer(*case.arguments(), **case.options)
    assert seen["ours"] == seen["host"]
