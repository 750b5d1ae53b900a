"""The discriminators against numbers of the unmodified official code (tests/fixtures/official-cips3d/README.md)."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cips3d.models.augment import AugmentDraws
from cips3d.models.discriminator import (
    Blur,
    ConvLayer,
    Discriminator,
    DiscriminatorConfig,
    EqualConv2d,
    MinibatchStddev,
)
from cips3d.models.official import load_official, official_gradients
from cips3d.training.losses import r1_gradient_norm
from cips3d.training.steps import Judge

FIXTURE = Path(__file__).parents[1] / "fixtures" / "official-cips3d" / "discriminator.npz"
CONFIG = DiscriminatorConfig(main_channels=(8, 8, 8, 6), aux_channels=(6, 6, 6, 4))
DRAWS = ("brightness", "saturation", "contrast", "tx", "ty", "cx", "cy")
FLOAT64_TOLERANCE = 1e-6  # the stored values are float64 results rounded to float32
FLOAT32_TOLERANCE = 1e-4  # suggested by the fixture's README
R1_WEIGHT = 10.0


@pytest.fixture(scope="module")
def fixture():
    with np.load(FIXTURE, allow_pickle=False) as archive:
        return dict(archive)


def load(fixture, dtype):
    """The model with the fixture's weights, and the official names in the order of its packed vectors."""
    layout = json.loads(bytes(fixture["layout_json"]))
    pieces = torch.from_numpy(fixture["weights"]).to(dtype).split([math.prod(shape) for _, shape in layout])
    state = {name: piece.view(shape) for (name, shape), piece in zip(layout, pieces, strict=True)}
    return load_official(state), [name for name, _ in layout]


def draws_of(fixture, dtype):
    parts = {k: [torch.from_numpy(fixture[f"diffaug/{part}/{k}"]).to(dtype) for part in ("main", "aux")] for k in DRAWS}
    return AugmentDraws(**{k: torch.cat(v) for k, v in parts.items()})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["alpha1", "alpha04", "main_only", "diffaug"])
def test_equals_official(fixture, case, dtype):
    tolerance = FLOAT64_TOLERANCE if dtype == torch.float64 else FLOAT32_TOLERANCE
    model, names = load(fixture, dtype)
    settings = json.loads(bytes(fixture["meta_json"]))["cases"][case]
    augment = draws_of(fixture, dtype) if case == "diffaug" else None

    def expect(actual, key):
        wanted = torch.from_numpy(fixture[f"{case}/{key}"]).to(dtype)
        torch.testing.assert_close(actual.reshape(wanted.shape), wanted, rtol=tolerance, atol=tolerance)

    x = torch.from_numpy(fixture[f"{case}/x"]).to(dtype).requires_grad_()
    out = model(x, alpha=settings["alpha"], use_aux=settings["aux"], augment=augment)
    (grad_x,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    r1 = grad_x.square().sum(dim=(1, 2, 3)).unsqueeze(1)
    loss = (F.softplus(-out) + 0.5 * R1_WEIGHT * r1).mean()
    loss.backward()
    for actual, key in ((out, "out"), (grad_x, "grad_x"), (r1, "r1"), (loss, "loss")):
        expect(actual, key)

    gradients = official_gradients(model)
    for name, norm in zip(names, fixture[f"{case}/grad_norm"].tolist(), strict=True):
        assert (gradients[name] is None) == math.isnan(norm), name
        if gradients[name] is not None:
            assert gradients[name].double().norm().item() == pytest.approx(norm, rel=10 * tolerance, abs=tolerance), (
                name
            )


def test_released_size():
    """Parameter counts of the released state dict (without its blur buffers)."""
    model = Discriminator(DiscriminatorConfig())
    assert model.config.max_size == 1024
    assert sum(p.numel() for p in model.main.parameters()) == 29_019_937
    assert sum(p.numel() for p in model.aux.parameters()) == 8_498_977


def test_main_and_aux_get_their_halves():
    model = Discriminator(CONFIG)
    x = torch.randn(6, 3, 16, 16)
    both = model(x, use_aux=True)
    torch.testing.assert_close(both, torch.cat([model.main(x[:3]), model.aux(x[3:])]))


def test_alpha_fades_between_two_resolutions():
    model = Discriminator(CONFIG).double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    half = F.interpolate(x, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(model(x, alpha=0.0), model(half, alpha=1.0))
    assert not torch.allclose(model(x, alpha=0.5), model(x, alpha=1.0))


def stddev_by_loops(x, group):
    """StyleGAN2's minibatch statistics: one channel more, the mean spread of each image's group."""
    batch, channels, height, width = x.shape
    result = np.concatenate([x, np.zeros((batch, 1, height, width))], axis=1)
    for first in range(batch // group):
        members = range(first, batch, batch // group)
        spreads = []
        for at in np.ndindex(channels, height, width):
            values = [x[(i, *at)] for i in members]
            mean = sum(values) / group
            spreads.append(math.sqrt(sum((v - mean) ** 2 for v in values) / group + 1e-8))
        for i in members:
            result[i, channels] = sum(spreads) / len(spreads)
    return result


@pytest.mark.parametrize(("batch", "group"), [(6, 2), (6, 3), (4, 4), (3, 8), (1, 4)])
def test_minibatch_stddev_equals_loops(batch, group):
    x = np.random.default_rng(0).normal(size=(batch, 3, 2, 4))
    seen = MinibatchStddev(group)(torch.from_numpy(x))
    torch.testing.assert_close(seen.numpy(), stddev_by_loops(x, min(batch, group)), rtol=1e-12, atol=1e-12)


def test_minibatch_stddev_is_an_option():
    """Two images are enough for a group; only the last convolution then differs, by one input channel."""
    plain, aware = (Discriminator(dataclasses.replace(CONFIG, stddev_group=group)) for group in (0, 2))
    shapes = [{name: tuple(value.shape) for name, value in model.state_dict().items()} for model in (plain, aware)]
    different = {name: (shapes[0][name], shape) for name, shape in shapes[1].items() if shape != shapes[0][name]}
    assert shapes[0].keys() == shapes[1].keys()
    assert different == {
        "main.final_conv.conv.weight": ((8, 8, 3, 3), (8, 9, 3, 3)),
        "aux.final_conv.conv.weight": ((6, 6, 3, 3), (6, 7, 3, 3)),
    }
    x = torch.randn(4, 3, 16, 16)
    alone = torch.cat([plain.main(part) for part in x.split(1)])
    torch.testing.assert_close(plain(x), alone)
    # Groups are (0, 2) and (1, 3): an image's logit depends on its group's other image and on no one else.
    other = aware(torch.cat([x[:3], torch.randn(1, 3, 16, 16)]))
    torch.testing.assert_close(other[[0, 2]], aware(x)[[0, 2]])
    assert not torch.allclose(other[1], aware(x)[1], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="stddev_group 2 must divide the batch of 3 images"):
        aware(x[:3])
    for group in (-1, 1):
        with pytest.raises(ValueError, match=f"stddev_group must be 0 .off. or at least 2 images, got {group}"):
            DiscriminatorConfig(stddev_group=group)


def test_minibatch_stddev_has_second_derivatives():
    """R1 looks at the gradient with respect to the images, and descends through it."""
    x = torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(MinibatchStddev(2), (x,))
    model = Discriminator(dataclasses.replace(CONFIG, stddev_group=2))
    images = torch.randn(4, 3, 8, 8, requires_grad=True)
    r1_gradient_norm(model(images), images).mean().backward()
    assert model.main.final_conv.conv.weight.grad[:, -1].abs().min() > 0


class CountConvolutions(TorchDispatchMode):
    """How many convolutions and gradients of convolutions run in its block."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "convolution" in func.__name__
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("padding", "stride"), [(2, 1), (1, 2), (2, 2)])
def test_blur_has_a_convolutions_derivatives(padding, stride):
    """Equal to a depthwise convolution to the second order, without its loop over channels."""
    torch.manual_seed(0)
    blur = Blur(padding, stride).double()
    x = torch.randn(2, 5, 7, 6, dtype=torch.float64, requires_grad=True)
    weight = blur.kernel.expand(5, 1, 4, 4)

    def derivatives(y):
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), x)
        return y, first, second

    wanted = derivatives(F.conv2d(x, weight, stride=stride, padding=padding, groups=5))
    with CountConvolutions() as seen:
        torch.testing.assert_close(derivatives(blur(x)), wanted)
    assert seen.count == 4  # forward, backward, and backward of both


def test_channels_last_gives_the_same_numbers():
    plain, last = (Discriminator(CONFIG).double() for _ in range(2))
    last.lay_out(channels_last=True)
    last.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    maps, results = [], []
    for module in last.modules():
        if isinstance(module, ConvLayer | Blur):
            module.register_forward_hook(lambda module, inputs, output: maps.append(output))
    for model in (plain, last):
        images = x.clone().requires_grad_()
        logits = model(images, use_aux=True)
        r1_gradient_norm(logits, images).mean().backward()
        results.append([logits, *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(*results)
    assert maps and all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


def test_r1_in_bfloat16():
    """Feature maps are bfloat16, the penalty is not; its gradient points where it does in full precision."""
    torch.manual_seed(0)
    model, x = Discriminator(CONFIG), torch.rand(4, 3, 16, 16) * 2 - 1
    maps, gradients = [], []
    model.main.blocks["16"].register_forward_hook(lambda module, inputs, output: maps.append(output.dtype))
    for precision in (None, torch.bfloat16):
        images = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
            logits = Judge(use_aux=False).logits(model, images, None)
        r1 = r1_gradient_norm(logits, images)
        assert logits.dtype == r1.dtype == torch.float32
        model.zero_grad()
        r1.mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert maps == [torch.float32, torch.bfloat16]
    # 8 bits: each of a dozen roundings on the way, in both directions, errs by at most 1/256.
    assert torch.cosine_similarity(*gradients, dim=0).item() > 0.99
    assert not torch.equal(*gradients)


def test_equalised_weights_keep_unit_variance():
    torch.manual_seed(0)
    y = EqualConv2d(64, 64, 3, padding=1)(torch.randn(4, 64, 16, 16))[:, :, 1:-1, 1:-1]
    assert y.std().item() == pytest.approx(1.0, abs=0.05)


def test_errors_name_the_way_out():
    model = Discriminator(DiscriminatorConfig(main_channels=(4, 4), aux_channels=()))
    with pytest.raises(ValueError, match=r"S one of 4, 8, got \[2, 3, 12, 12\]"):
        model(torch.zeros(2, 3, 12, 12))
    with pytest.raises(ValueError, match="use_aux needs aux_channels"):
        model(torch.zeros(2, 3, 8, 8), use_aux=True)
