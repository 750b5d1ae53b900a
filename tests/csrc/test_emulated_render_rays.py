"""render_rays' CUDA kernels on the emulator, against the reference in float64."""

from dataclasses import dataclass

import pytest
import torch

from cips3d_ext import reference
from cips3d_ext.ops import _registry
from cips3d_ext.testing import assert_close, relative_error

from ._modes import MODES

GRADIENTS = ("origins", "directions", "parameters", "gamma", "beta")
ALL_GRADIENTS = 0b11111
TENSORS = ("origins", "directions", "parameters", "gamma", "beta", "jitter", "u", "noise_coarse", "noise")
# Operands of the products rounded to float16, phases of some rad, and fine samples that move with the coarse weights.
ROUNDED_OPERANDS = 1e-2
SLOW = 200  # channels of a field that takes the emulator seconds: one schedule for these


@dataclass(frozen=True)
class Rays:
    batch: int
    rays: int
    coarse: int
    fine: int
    widths: tuple[int, ...]
    colour: int = 0
    features: int = 3
    views: bool = False
    noise: bool = False
    activation: str = "softplus"  # without a kink that rounded operands could cross
    last_back: bool = False
    white: int = 0

    def tensors(self, dtype):
        generator = torch.Generator().manual_seed(self.rays)

        def uniform(*shape):
            return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1

        shapes = reference.siren_field_shapes([*self.widths], self.colour, self.features, self.views)
        parameters = [t for O, I in shapes for t in (uniform(O * I) / I**0.5, 0.3 * uniform(O))]
        films, B, R = sum(self.widths) + self.colour, self.batch, self.rays
        tensors = {
            "origins": 0.1 * uniform(B, R, 3) + torch.tensor([0.0, 0.0, 1.0]),
            "directions": 0.2 * uniform(B, R, 3) - torch.tensor([0.0, 0.0, 1.0]),
            "parameters": torch.cat(parameters),
            "gamma": 0.3 * uniform(B, films),
            "beta": uniform(B, films),
            "jitter": (uniform(B, R, self.coarse) + 1) / 2,
            "u": (uniform(B, R, self.fine) + 1) / 2 if self.fine else None,
            "noise_coarse": 0.1 * uniform(B, R, self.coarse) if self.noise and self.fine else None,
            "noise": 0.1 * uniform(B, R, self.coarse + self.fine) if self.noise else None,
        }
        return [None if tensors[name] is None else tensors[name].to(dtype) for name in TENSORS]

    def options(self, reduced=False):
        field = ([*self.widths], self.colour, self.features, self.views, 1.5, 1.0, 1.5, 1.0, reduced)
        return (*field, 0.5, 3.0, self.activation, self.last_back, self.white)

    def named_options(self):
        return reference.RenderRaysOptions(*self.options())._asdict()

    def cotangents(self, dtype):
        generator = torch.Generator().manual_seed(1)
        shapes = ((self.features,), (), (self.coarse + self.fine,))
        made = [torch.randn(self.batch, self.rays, *s, generator=generator, dtype=torch.float64) for s in shapes]
        return [t.to(dtype) for t in made]


def wide(tensors):
    return [None if t is None else t.double() for t in tensors]


CASES = {
    "one_ray": Rays(1, 1, 3, 1, (16,), features=1),
    "cips3d": Rays(2, 11, 12, 12, (32, 32), 16, 32, noise=True, activation="relu"),
    "pigan": Rays(1, 3, 6, 7, (80,) * 6, 48, 3, views=True, last_back=True),  # weights come piece by piece
    "one_pass": Rays(2, 37, 5, 0, (35, 17), 19, 35, white=35),
    "several_groups": Rays(1, 301, 3, 2, (16,), 16, 5),  # more rays than one group of every block
    "chunks": Rays(1, 3, 40, 70, (24,), 24, 2, views=True, noise=True, white=2),  # more samples than a warp's lanes
    "released": Rays(1, 9, 12, 12, (128, 128), 64, 32),
    "wide_sines": Rays(1, 2, 6, 6, (256, 144), 64, 70),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def beyond(case, dtype, reduced):
    spec = _registry.REGISTRY["render_rays"]
    return spec.beyond("cuda", case.tensors(dtype), case.options(reduced))


def check(actual, expected, dtype, reduced, what):
    if dtype == torch.float32 and not reduced:
        assert_close(actual, expected, dtype, what)
    else:
        assert relative_error(actual, expected) < ROUNDED_OPERANDS + (2.0**-8 if dtype == torch.bfloat16 else 0), what


@pytest.mark.parametrize(
    ("case", "dtype", "reduced"),
    [
        pytest.param(case, dtype, reduced, id=f"{name}-{dtype}-{reduced}")
        for name, case in CASES.items()
        for dtype, reduced in MODES
        if not beyond(case, dtype, reduced)
    ],
)
def test_forward_and_backward(emulated, case, dtype, reduced):
    tensors, cotangents = case.tensors(dtype), case.cotangents(dtype)
    run = emulated.in_all_schedules if sum(case.widths) < SLOW else lambda op, *arguments: op(*arguments)
    outputs = run(emulated.ops.render_rays, *tensors, *case.options(reduced))
    assert [t.dtype for t in outputs] == [dtype] * 3 + [torch.float32]
    expected = reference.render_rays(*wide(tensors), **case.named_options())
    for name, output, wanted in zip(("feature", "depth", "weights", "fine depths"), outputs, expected, strict=True):
        check(output, wanted, dtype, reduced, name)

    fine = outputs[3]
    arguments = (*cotangents, fine, *tensors, *case.options(reduced), ALL_GRADIENTS)
    gradients = run(emulated.ops.render_rays_backward, *arguments)
    given = wide([*cotangents, fine, *tensors])
    wanted = reference.render_rays_backward(*given, **case.named_options())
    for name, gradient, value in zip(GRADIENTS, gradients, wanted, strict=True):
        assert gradient.dtype == dtype
        check(gradient, value, dtype, reduced, name)


@pytest.mark.parametrize("mask", [1 << i for i in range(5)])
def test_one_gradient_alone(emulated, mask):
    case = CASES["chunks"]
    tensors, cotangents = case.tensors(torch.float32), case.cotangents(torch.float32)
    fine = emulated.ops.render_rays(*tensors, *case.options())[3]
    everything = emulated.ops.render_rays_backward(*cotangents, fine, *tensors, *case.options(), ALL_GRADIENTS)
    alone = emulated.ops.render_rays_backward(*cotangents, fine, *tensors, *case.options(), mask)
    for i, (gradient, wanted) in enumerate(zip(alone, everything, strict=True)):
        assert torch.equal(gradient, wanted) if mask >> i & 1 else gradient.shape == (0,)


@pytest.mark.parametrize("absent", range(3))
def test_absent_gradients_count_as_zero(emulated, absent):
    case = CASES["one_pass"]
    tensors, cotangents = case.tensors(torch.float32), case.cotangents(torch.float32)
    fine = emulated.ops.render_rays(*tensors, *case.options())[3]
    zeroed = [torch.zeros_like(c) if i == absent else c for i, c in enumerate(cotangents)]
    cotangents[absent] = None
    found = emulated.ops.render_rays_backward(*cotangents, fine, *tensors, *case.options(), ALL_GRADIENTS)
    expected = reference.render_rays_backward(*wide([*zeroed, fine, *tensors]), **case.named_options())
    for name, gradient, wanted in zip(GRADIENTS, found, expected, strict=True):
        check(gradient, wanted, torch.float32, False, name)


def test_a_ray_does_not_depend_on_the_others(emulated):
    case = CASES["several_groups"]
    tensors = case.tensors(torch.float32)
    everything = emulated.ops.render_rays(*tensors, *case.options())
    some = [t if i in (2, 3, 4) or t is None else t[:, 120:123] for i, t in enumerate(tensors)]
    for found, wanted in zip(emulated.ops.render_rays(*some, *case.options()), everything, strict=True):
        assert torch.equal(found, wanted[:, 120:123])


@pytest.mark.parametrize(("batch", "rays"), [(0, 3), (2, 0)])
def test_no_rays(emulated, batch, rays):
    case = Rays(batch, rays, 4, 3, (16,), 16, 2)
    tensors = case.tensors(torch.float32)
    outputs = emulated.ops.render_rays(*tensors, *case.options())
    assert [[*t.shape] for t in outputs] == [[batch, rays, *s] for s in ((2,), (), (7,), (3,))]
    gradients = emulated.ops.render_rays_backward(*outputs, *tensors, *case.options(), ALL_GRADIENTS)
    for gradient, tensor in zip(gradients, tensors, strict=False):
        assert gradient.shape == tensor.shape and not gradient.any()


@pytest.mark.parametrize(
    ("changes", "dtype", "reduced", "taken"),
    [
        ({}, torch.float32, False, True),
        ({}, torch.float64, False, False),
        ({"widths": (128,)}, torch.float32, False, True),
        ({"widths": (129,)}, torch.float32, False, False),
        ({"widths": (129,)}, torch.float32, True, True),
        ({"colour": 257}, torch.bfloat16, False, False),
        ({"features": 129}, torch.float32, False, False),
        ({"features": 256}, torch.float16, False, True),
        ({"coarse": 4000, "fine": 97}, torch.float32, False, False),
    ],
)
def test_what_is_beyond_the_kernels_is_known_before(emulated, changes, dtype, reduced, taken):
    case = Rays(**({"batch": 1, "rays": 1, "coarse": 3, "fine": 2, "widths": (16,)} | changes))
    assert (not beyond(case, dtype, reduced)) == taken
    tensors = case.tensors(dtype)
    if taken:
        emulated.ops.render_rays(*tensors, *case.options(reduced))
        return
    with pytest.raises(RuntimeError, match="render_rays: (the CUDA kernels take|at most 4096 samples)"):
        emulated.ops.render_rays(*tensors, *case.options(reduced))
