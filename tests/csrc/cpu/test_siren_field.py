"""siren_field's CPU kernels at each SIMD level: awkward widths, every dtype, absent inputs, threads, tiles, images."""

import pytest
import torch

from cips3d_ext import reference

from ._compare import TOLERANCE, assert_close, assert_gradients
from ._siren_chain import eager_field, rounded_field

SCALES = {"point_scale": 1.5, "gamma_scale": 0.5, "gamma_offset": 2.0, "beta_scale": 0.25, "reduced_precision": False}
GRADIENTS = ("points", "parameters", "gamma", "beta", "directions")
# widths, colour_width, features, (B, N), R (0: no directions); a tile has 192 points of one image
FIELDS = {
    "cips3d": ((128, 128), 64, 32, (2, 200), 0),
    "pigan": ((64,) * 8, 64, 3, (2, 192), 8),
    "odd": ((35, 37), 19, 7, (3, 199), 1),
    "odd_directions": ((19, 31), 33, 5, (2, 210), 7),
    "trunk_features": ((16, 33), 0, 65, (1, 97), 0),
    "density_alone": ((5,), 0, 0, (2, 33), 0),
    "colour_alone": ((17,), 6, 0, (1, 50), 5),
    "many_images": ((9, 10), 8, 3, (50, 1), 1),
    "no_images": ((4,), 4, 2, (0, 6), 2),
    "no_points": ((4,), 4, 2, (2, 0), 0),
    "no_directions": ((4,), 4, 2, (2, 0), -1),
    "one_point": ((1,), 1, 1, (1, 1), 1),
}


def make(field: str, dtype: torch.dtype, absent: tuple[str, ...] = ()):
    """Tensors by name and the options of one call."""
    widths, colour_width, features, (B, N), rays = FIELDS[field]
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    view = rays != 0
    shapes = reference.siren_field_shapes(list(widths), colour_width, features, view)
    parameters = [t for O, I in shapes for t in (normal(O * I) / I**0.5, 0.3 * normal(O))]
    films = sum(widths) + colour_width
    tensors = {
        "points": normal(B, N, 3) / 2,
        "parameters": torch.cat(parameters),
        "gamma": normal(B, films),
        "beta": normal(B, films),
        "directions": normal(B, max(rays, 0), 3) if view else None,
    }
    tensors = {n: None if t is None or n in absent else t.to(dtype) for n, t in tensors.items()}
    return tensors, {"widths": list(widths), "colour_width": colour_width, "features": features, **SCALES}


def run(tensors, options):
    return torch.ops.cips3d_ext.siren_field(*tensors.values(), *options.values())


def gradients(cotangents, tensors, options, mask=31):
    return torch.ops.cips3d_ext.siren_field_backward(*cotangents, *tensors.values(), *options.values(), mask)


def cotangents_of(outputs):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]


def check(tensors, options, dtype, definition=reference.siren_field):
    wide = {n: None if t is None else t.double().requires_grad_() for n, t in tensors.items()}
    wanted = definition(*wide.values(), **options)
    found = run(tensors, options)
    for name, output, expected in zip(("features", "density"), found, wanted, strict=True):
        assert_close(output, expected.detach(), dtype, name)
    cotangents = cotangents_of(found)
    present = {n: t for n, t in wide.items() if t is not None}
    assert_gradients(GRADIENTS, gradients(cotangents, tensors, options), present, wanted, cotangents, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("field", FIELDS)
def test_fields(cpu_level_or_bf16, field, dtype):
    """With bfloat16 dot products, within the same tolerance of a definition that rounds what they round; pi-GAN's, of
    nine layers, is 4 to 15 times that tolerance from the exact one."""
    rounds = cpu_level_or_bf16 == "avx512bf16" and dtype == torch.bfloat16
    check(*make(field, dtype), dtype, rounded_field if rounds else reference.siren_field)


@pytest.mark.parametrize("field", FIELDS)
def test_bfloat16_is_nearer_than_eager(cpu_level_or_bf16, field):
    """Each result at every level, to the one in float64: never farther than eager PyTorch's bfloat16."""
    tensors, options = make(field, torch.bfloat16)
    outputs = run(tensors, options)
    cotangents = cotangents_of(outputs)

    def with_gradients(definition, tensors):
        leaves = {n: None if t is None else t.detach().requires_grad_() for n, t in tensors.items()}
        results = definition(*leaves.values(), **options)
        present = [t for t in leaves.values() if t is not None]
        given = [c.to(r.dtype) for c, r in zip(cotangents, results, strict=True)]
        return [*results, *torch.autograd.grad(results, present, given, materialize_grads=True)]

    wide = {n: None if t is None else t.double() for n, t in tensors.items()}
    wanted = with_gradients(reference.siren_field, wide)
    eager = with_gradients(eager_field, tensors)
    ours = [*outputs, *(g for g in gradients(cotangents, tensors, options) if g.shape != (0,))]
    for found, expected, other in zip(ours, wanted, eager, strict=True):
        assert (found - expected).norm() <= (other - expected).norm()


@pytest.mark.parametrize("absent", [("gamma",), ("beta",), ("gamma", "beta")], ids="+".join)
def test_absent_inputs(cpu_level_or_bf16, absent):
    check(*make("odd", torch.float32, absent), torch.float32)


@pytest.mark.parametrize("field", ["odd", "odd_directions", "trunk_features"])
def test_gradients_one_by_one(cpu_level_or_bf16, field):
    """Each alone is what it is among all; those of absent outputs count as zero."""
    tensors, options = make(field, torch.float64)
    cotangents = cotangents_of(run(tensors, options))
    complete = gradients(cotangents, tensors, options)
    for index, whole in enumerate(complete):
        alone = gradients(cotangents, tensors, options, 1 << index)
        assert [grad.shape == (0,) for grad in alone] == [
            i != index or t is None for i, t in enumerate(tensors.values())
        ]
        assert torch.equal(alone[index], whole)
    halves = [gradients([c if i == k else None for k, c in enumerate(cotangents)], tensors, options) for i in range(2)]
    for name, first, second, whole in zip(GRADIENTS, *halves, complete, strict=True):
        assert_close(first + second, whole, torch.float64, name)


@pytest.mark.parametrize("field", ["odd", "odd_directions", "many_images"])
def test_deterministic_for_each_number_of_threads(cpu_level_or_bf16, one_and_two_threads, field):
    """Two threads add their parts of weights, gamma and beta; what belongs to a point is the same bits."""
    tensors, options = make(field, torch.float32)
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        outputs = run(tensors, options)
        runs = [gradients(cotangents_of(outputs), tensors, options) for _ in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
        results.append([*outputs, *runs[0]])
    for name, one, two in zip(("features", "density", *GRADIENTS), *results, strict=True):
        if name in ("parameters", "gamma", "beta"):
            assert_close(two, one.double(), torch.float32, name)
        else:
            assert torch.equal(one, two)


def test_each_image_has_its_own_film(cpu_level_or_bf16):
    """A batch is its images one by one, wherever tiles and threads divide it."""
    tensors, options = make("odd_directions", torch.float32)
    outputs = run(tensors, options)
    for image in range(2):
        one = {n: t if n == "parameters" else t[image : image + 1] for n, t in tensors.items()}
        for alone, among in zip(run(one, options), outputs, strict=True):
            assert torch.equal(alone[0], among[image])


def test_an_unusual_point_stays_alone(cpu_level_or_bf16):
    tensors, options = make("odd_directions", torch.float32)
    plain = run(tensors, options)
    tensors["points"][0, 7] = torch.inf
    tensors["points"][1, 9] = 1e12
    for before, after in zip(plain, run(tensors, options), strict=True):
        assert after[0, 7].isnan().all() and after[1, 9].isfinite().all()
        others = torch.ones(before.shape[:2], dtype=torch.bool)
        others[0, 7] = others[1, 9] = False
        assert torch.equal(before[others], after[others])


def test_shape_errors_name_the_argument():
    tensors, options = make("odd", torch.float32)
    wrong = [
        ({"parameters": tensors["parameters"][1:]}, r"siren_field: parameters must be \[P\].*got \[\d+\]"),
        ({"gamma": tensors["gamma"][:, 1:]}, r"siren_field: gamma must be \[B,F\].*got \[3,90\]"),
        ({"directions": None}, r"siren_field: parameters must be"),
        ({"points": torch.ones(3, 101, 2)}, r"siren_field: points must be \[B,N,3\], got \[3,101,2\]"),
    ]
    for change, message in wrong:
        with pytest.raises(RuntimeError, match=message):
            run(tensors | change, options)
    for change, message in [
        ({"widths": []}, "widths must have 1 to 8 entries, got 0"),
        ({"widths": [4] * 9}, "widths must have 1 to 8 entries, got 9"),
        ({"widths": [0]}, "widths must be positive"),
        ({"features": -1}, "must be 0 or more"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            run(tensors, options | change)
    several, options = make("odd_directions", torch.float32)
    with pytest.raises(RuntimeError, match=r"must be a multiple of R, got 210 points and directions \[2,4,3\]"):
        run(several | {"directions": torch.ones(2, 4, 3)}, options)
