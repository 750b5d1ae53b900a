"""siren_field's CUDA kernels on the emulator, against the reference in float64.

The phases are those of CIPS-3D: frequencies about 30, arguments of the sines up to about 20 rad.
"""

from dataclasses import dataclass

import pytest
import torch

from cips3d_ext import reference
from cips3d_ext.testing import assert_close, relative_error

from ._modes import every_mode

SCALES = (2 / 0.24, 15.0, 30.0, 1.0)  # point_scale, gamma_scale, gamma_offset, beta_scale
OPTIONS = ("widths", "colour_width", "features", "point_scale", "gamma_scale", "gamma_offset", "beta_scale")
# Largest error of products with operands rounded to float16: 2^-12 of each, carried through the layers by phases of
# tens of rad, and back. An order of magnitude above float16's own, two below the errors of a wrong fragment.
ROUNDED_OPERANDS = {3: 2e-3, 9: 1e-2}  # by the number of sine layers, up to these; largest seen: 1.6e-3 and 4.7e-3
GRADIENTS = ("points", "parameters", "gamma", "beta", "directions")
ALL_GRADIENTS = 0b11111


@dataclass(frozen=True)
class Field:
    batch: int
    points: int
    widths: tuple[int, ...]
    colour: int = 0
    features: int = 0
    rays: int = 0
    film: bool = True

    def tensors(self, dtype):
        generator = torch.Generator().manual_seed(self.points)

        def uniform(*shape):
            return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1

        shapes = reference.siren_field_shapes([*self.widths], self.colour, self.features, self.rays > 0)
        parameters = [t for O, I in shapes for t in ((6 / I) ** 0.5 / 25 * uniform(O * I), 0.3 * uniform(O) / I**0.5)]
        film = (self.batch, sum(self.widths) + self.colour)
        tensors = [0.12 * uniform(self.batch, self.points, 3), torch.cat(parameters)]
        tensors += [0.3 * uniform(*film), uniform(*film)] if self.film else [None, None]
        tensors.append(uniform(self.batch, self.rays, 3) if self.rays else None)
        return [None if t is None else t.to(dtype) for t in tensors]

    def options(self, reduced_precision=False):
        return ([*self.widths], self.colour, self.features, *SCALES, reduced_precision)

    def expected(self, tensors):
        wide = [None if t is None else t.double() for t in tensors]
        return reference.siren_field(*wide, **dict(zip(OPTIONS, self.options(), strict=False)))

    def cotangents(self, dtype):
        generator = torch.Generator().manual_seed(1)
        shapes = (self.batch, self.points, self.features), (self.batch, self.points)
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]

    def expected_gradients(self, cotangents, tensors):
        wide = [None if t is None else t.double() for t in [*cotangents, *tensors]]
        return reference.siren_field_backward(*wide, **dict(zip(OPTIONS, self.options(), strict=False)))

    def rounded_operands(self):
        layers = len(self.widths) + (self.colour > 0)
        return next(value for most, value in ROUNDED_OPERANDS.items() if layers <= most)


FIELDS = {
    "one_point": Field(1, 1, (16,), 16, 1),
    "demo": Field(2, 37, (64, 64), 32, 16),
    "released": Field(2, 265, (128, 128), 64, 32),  # a second tile of 256 points, partly filled
    "odd_widths": Field(3, 131, (35, 17, 80), 19, 35),
    "directions": Field(2, 150, (32, 48), 16, 3, rays=10),
    "pigan": Field(1, 20, (128,) * 8, 128, 3, rays=4),  # weights come piece by piece
    "wide": Field(1, 133, (256, 256), 64, 3, rays=7),
    "beyond_the_tensor_cores": Field(2, 9, (264, 32), 0, 5),
    "density_alone": Field(2, 33, (80, 17)),
    "without_film": Field(2, 40, (24,), 24, 4, film=False),
}
every_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
# The backward takes blocks of up to 128 points.
BACKWARD_FIELDS = FIELDS | {
    "released": Field(1, 130, (128, 128), 64, 32),
    "odd_widths": Field(2, 37, (35, 17, 80), 19, 35),
    "several_blocks": Field(1, 520, (16, 16), 16, 3, rays=13),  # more than the blocks of an image: sums of sums
    "pigan": Field(1, 20, (80,) * 8, 48, 3, rays=4),
    "wide": Field(1, 40, (256, 144), 64, 3, rays=4),
    "colour_alone": Field(2, 21, (20, 17), 12, 0, rays=3),
    "many_features": Field(2, 9, (16,), 16, 300),
}


def check(actual, expected, dtype, reduced, field, what):
    """Within the dtype's tolerance; with operands of 16 bits (always for 16-bit inputs) also within theirs."""
    if dtype in (torch.float64, torch.float32) and not reduced:
        assert_close(actual, expected, dtype, what)
    else:
        tolerance = field.rounded_operands() + (2.0**-8 if dtype == torch.bfloat16 else 0)
        assert relative_error(actual, expected) < tolerance, what


@every_field
@every_mode
def test_forward(emulated, field, dtype, reduced):
    tensors = field.tensors(dtype)
    actual = emulated.in_all_schedules(emulated.ops.siren_field, *tensors, *field.options(reduced))
    assert [t.dtype for t in actual] == [dtype, dtype]
    for output, expected, name in zip(actual, field.expected(tensors), ("features", "density"), strict=True):
        check(output, expected, dtype, reduced, field, name)


def test_reduced_precision_is_what_rounds(emulated):
    """The two float32 modes differ as they should: one is as good as float32, the other as good as float16 operands."""
    field = FIELDS["released"]
    tensors = field.tensors(torch.float32)
    wanted = field.expected(tensors)[0]
    errors = [
        relative_error(emulated.ops.siren_field(*tensors, *field.options(reduced))[0], wanted)
        for reduced in (False, True)
    ]
    assert errors[0] < 1e-5 and 1e-5 < errors[1] < ROUNDED_OPERANDS[3]


def check_gradients(actual, expected, tensors, dtype, reduced, field):
    for gradient, wanted, tensor, name in zip(actual, expected, tensors, GRADIENTS, strict=True):
        assert gradient.dtype == dtype
        if tensor is None:
            assert gradient.shape == (0,)
        else:
            check(gradient, wanted, dtype, reduced, field, name)


@pytest.mark.parametrize("field", BACKWARD_FIELDS.values(), ids=BACKWARD_FIELDS)
@every_mode
def test_backward(emulated, field, dtype, reduced):
    tensors, cotangents = field.tensors(dtype), field.cotangents(dtype)
    arguments = (*cotangents, *tensors, *field.options(reduced), ALL_GRADIENTS)
    if field.points < 100:
        actual = emulated.in_all_schedules(emulated.ops.siren_field_backward, *arguments)
    else:
        actual = emulated.ops.siren_field_backward(*arguments)
    check_gradients(actual, field.expected_gradients(cotangents, tensors), tensors, dtype, reduced, field)


def test_backward_of_several_tiles_in_all_schedules(emulated):
    field = BACKWARD_FIELDS["several_blocks"]
    arguments = (*field.cotangents(torch.float32), *field.tensors(torch.float32), *field.options(True), ALL_GRADIENTS)
    emulated.in_all_schedules(emulated.ops.siren_field_backward, *arguments)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("position", range(5))
def test_one_gradient_alone(emulated, position, dtype):
    field = Field(2, 20, (24, 16), 16, 5, rays=4)
    arguments = (*field.cotangents(dtype), *field.tensors(dtype), *field.options())
    everything = emulated.ops.siren_field_backward(*arguments, ALL_GRADIENTS)
    only = emulated.ops.siren_field_backward(*arguments, 1 << position)
    assert torch.equal(only[position], everything[position])
    assert [g.shape for i, g in enumerate(only) if i != position] == [(0,)] * 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("absent", [0, 1])
def test_absent_gradients_count_as_zero(emulated, absent, dtype):
    field = Field(2, 20, (24, 16), 16, 5, rays=4)
    tensors, cotangents = field.tensors(dtype), field.cotangents(dtype)
    zeroed = [torch.zeros_like(c) if i == absent else c for i, c in enumerate(cotangents)]
    cotangents[absent] = None
    found = emulated.ops.siren_field_backward(*cotangents, *tensors, *field.options(), ALL_GRADIENTS)
    check_gradients(found, field.expected_gradients(zeroed, tensors), tensors, dtype, False, field)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e12])
@pytest.mark.parametrize("reduced", [False, True])
def test_gradients_of_any_size(emulated, scale, reduced):
    """Gradients go through float16, whose range is 1e-7 to 65504, under powers of two."""
    field = Field(2, 20, (24, 16), 16, 5, rays=4)
    tensors, cotangents = field.tensors(torch.float32), [scale * c for c in field.cotangents(torch.float32)]
    found = emulated.ops.siren_field_backward(*cotangents, *tensors, *field.options(reduced), ALL_GRADIENTS)
    check_gradients(found, field.expected_gradients(cotangents, tensors), tensors, torch.float32, reduced, field)


@pytest.mark.parametrize("growth", [0.1, 2.0])
def test_gradients_that_grow_or_vanish_layer_by_layer(emulated, growth):
    """Eight layers at the end of which gradients of 1 are 1e-7 or 2500: beyond float16 next to those at the top."""
    field = Field(1, 20, (32,) * 8, 0, 3, film=False)
    points, parameters, *_ = field.tensors(torch.float32)
    tensors = [points, growth * 20 * parameters, None, None, None]
    cotangents = field.cotangents(torch.float32)
    found = emulated.ops.siren_field_backward(*cotangents, *tensors, *field.options(), ALL_GRADIENTS)
    expected = field.expected_gradients(cotangents, tensors)
    size = expected[0].abs().max()
    assert size < 1e-6 if growth < 1 else size > 1e3
    for gradient, wanted, name in zip(found[:2], expected[:2], GRADIENTS, strict=False):
        assert gradient.isfinite().all() and relative_error(gradient, wanted) < 1e-3, name


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("colour", [0, 16])
def test_gradients_that_add_up_in_every_layer(emulated, colour, reduced):
    """Equal weights: each layer's gradients are sums of equal terms, the most that they can grow."""
    field = Field(1, 20, (32,) * 8, colour, 3, rays=5 if colour else 0, film=False)
    points, parameters, _, _, directions = field.tensors(torch.float32)
    tensors = [0.1 * points, torch.full_like(parameters, 0.03), None, None, directions]
    cotangents = [c.abs() for c in field.cotangents(torch.float32)]
    found = emulated.ops.siren_field_backward(*cotangents, *tensors, *field.options(reduced), ALL_GRADIENTS)
    check_gradients(found, field.expected_gradients(cotangents, tensors), tensors, torch.float32, reduced, field)


@pytest.mark.parametrize(("batch", "points", "rays"), [(0, 6, 2), (2, 0, 0), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_points(emulated, batch, points, rays, dtype):
    field = Field(batch, points, (16, 16), 16, 3, rays=rays)
    features, density = emulated.ops.siren_field(*field.tensors(dtype), *field.options())
    assert features.shape == (batch, points, 3) and density.shape == (batch, points)
    tensors = field.tensors(dtype)
    gradients = emulated.ops.siren_field_backward(features, density, *tensors, *field.options(), ALL_GRADIENTS)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        assert not gradient.any() and gradient.shape == ((0,) if tensor is None else tensor.shape)


def test_strided_inputs(emulated):
    field = FIELDS["directions"]
    tensors = field.tensors(torch.float32)
    strided = [torch.stack([t, t], -1)[..., 0] for t in tensors]
    pairs = zip(
        emulated.ops.siren_field(*strided, *field.options()),
        emulated.ops.siren_field(*tensors, *field.options()),
        strict=True,
    )
    assert all(torch.equal(actual, wanted) for actual, wanted in pairs)
    expanded = torch.ones(()).expand(field.batch, field.points, field.features)
    pairs = zip(
        emulated.ops.siren_field_backward(expanded, None, *strided, *field.options(), ALL_GRADIENTS),
        emulated.ops.siren_field_backward(expanded.contiguous(), None, *tensors, *field.options(), ALL_GRADIENTS),
        strict=True,
    )
    assert all(torch.equal(actual, wanted) for actual, wanted in pairs)


def test_shape_errors_name_the_argument(emulated):
    field = FIELDS["demo"]
    points, parameters, gamma, beta, _ = field.tensors(torch.float32)
    with pytest.raises(RuntimeError, match=r"siren_field: parameters must be \[P\].*got \[7\]"):
        emulated.ops.siren_field(points, parameters[:7], gamma, beta, None, *field.options())
    with pytest.raises(RuntimeError, match=r"siren_field: gamma must be \[B,F\].*got \[2,5\]"):
        emulated.ops.siren_field(points, parameters, gamma[:, :5], beta, None, *field.options())
