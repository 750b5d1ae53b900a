"""render_rays' CPU kernels at each SIMD level: awkward sizes, every dtype, absent inputs, blocks, images, threads."""

import pytest
import torch

from cips3d_ext import reference
from cips3d_ext.reference.render_rays import REFERENCES

from ._compare import assert_close
from ._siren_chain import rounded_field, rounded_field_backward

SCALES = {"point_scale": 1.5, "gamma_scale": 0.5, "gamma_offset": 2.0, "beta_scale": 0.25, "reduced_precision": False}
RANGE = {"near": 0.3, "far": 2.5}
PIGAN = {"activation": "softplus", "last_back": True}
OUTPUTS = ("feature", "depth", "weights", "fine depths")
GRADIENTS = ("origins", "directions", "parameters", "gamma", "beta")
ROUNDED = REFERENCES._replace(siren_field=rounded_field, siren_field_backward=rounded_field_backward)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# widths, colour_width, features, view_directions, (B, R), (S, F), what differs from a relu without background.
# A tile of the field has 192 rows: 16 rays of 12 samples, 8 of 24, a part of a ray of more.
CASES = {
    "cips3d": ((128, 128), 64, 32, False, (2, 37), (12, 12), {}),
    "pigan": ((32, 32, 32), 32, 3, True, (2, 9), (12, 12), PIGAN | {"white_channels": 3}),
    "one_pass": ((19, 33), 7, 5, False, (3, 50), (9, 0), PIGAN | {"white_channels": 2}),
    "more_fine": ((17,), 9, 35, True, (1, 21), (5, 14), {"activation": "softplus", "white_channels": 20}),
    "long_rays": ((6, 7), 5, 4, True, (2, 3), (70, 131), {"activation": "softplus"}),
    "trunk_features": ((16,), 0, 17, False, (5, 6), (4, 3), {"last_back": True}),
    "no_features": ((9,), 4, 0, False, (1, 7), (5, 5), {}),
    "many_images": ((5,), 3, 2, False, (40, 1), (3, 1), {}),
    "fewest": ((1,), 1, 1, False, (1, 1), (2, 0), {}),
    "no_rays": ((4,), 4, 2, False, (2, 0), (4, 3), {}),
    "no_images": ((4,), 4, 2, True, (0, 5), (4, 3), {}),
}  # fmt: skip


def make(name: str, dtype: torch.dtype, absent: tuple[str, ...] = ()):
    """Tensors by name and options of one call, in the order of the schema."""
    widths, colour_width, features, views, (B, R), (S, F), changes = CASES[name]
    generator = torch.Generator().manual_seed(S)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    shapes = reference.siren_field_shapes(list(widths), colour_width, features, views)
    parameters = [t for O, I in shapes for t in (normal(O * I) / I**0.5, 0.3 * normal(O))]
    films = sum(widths) + colour_width
    tensors = {
        "origins": 0.3 * normal(B, R, 3),
        "directions": normal(B, R, 3),
        "parameters": torch.cat(parameters),
        "gamma": normal(B, films),
        "beta": normal(B, films),
        "jitter": uniform(B, R, S),
        "u": uniform(B, R, F) if F else None,
        "noise_coarse": 0.3 * normal(B, R, S) if F else None,
        "noise": 0.3 * normal(B, R, S + F),
    }
    field = {"widths": list(widths), "colour_width": colour_width, "features": features, "view_directions": views}
    integration = {"activation": "relu", "last_back": False, "white_channels": 0} | changes
    tensors = {n: None if t is None or n in absent else t.to(dtype) for n, t in tensors.items()}
    return tensors, field | SCALES | RANGE | integration


def run(tensors, options):
    return torch.ops.cips3d_ext.render_rays(*tensors.values(), *options.values())


def gradients(cotangents, fine_depths, tensors, options, mask=31):
    backward = torch.ops.cips3d_ext.render_rays_backward
    return backward(*cotangents, fine_depths, *tensors.values(), *options.values(), mask)


def cotangents_of(outputs):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs[:3]]


def check(tensors, options, dtype, parts=REFERENCES):
    """parts: of the definition of the gradients."""
    wide = {n: None if t is None else t.double() for n, t in tensors.items()}
    wanted = reference.render_rays(*wide.values(), **options)
    found = run(tensors, options)
    for name, output, expected in zip(OUTPUTS, found, wanted, strict=True):
        computing = torch.float64 if dtype == torch.float64 else torch.float32
        assert_close(output, expected, computing if name == "fine depths" else dtype, name)
    given = [*cotangents_of(found), found[3]]
    expected = reference.render_rays_backward(*(t.double() for t in given), *wide.values(), parts=parts, **options)
    for name, grad, expected_grad in zip(
        GRADIENTS, gradients(given[:3], found[3], tensors, options), expected, strict=True
    ):
        if expected_grad is None:
            assert grad.shape == (0,)
        else:
            assert_close(grad, expected_grad, dtype, f"gradient of {name}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_reference(cpu_level_or_bf16, name, dtype):
    """With bfloat16 dot products the gradients are those of a field that rounds what they round: in the first case that
    is twice the tolerance from the exact ones."""
    rounds = cpu_level_or_bf16 == "avx512bf16" and dtype == torch.bfloat16
    check(*make(name, dtype), dtype, ROUNDED if rounds else REFERENCES)


@pytest.mark.parametrize("absent", [("gamma",), ("beta", "noise"), ("gamma", "beta", "noise_coarse")], ids=str)
@pytest.mark.parametrize("name", ["pigan", "trunk_features"])
def test_absent_inputs(cpu_level_or_bf16, name, absent):
    check(*make(name, torch.float32, absent), torch.float32)


@pytest.mark.parametrize("name", ["pigan", "one_pass", "long_rays", "no_features"])
def test_gradients_one_by_one(cpu_level_or_bf16, name):
    """Gradients of absent outputs count as zero, and each input's alone is what it is among all."""
    tensors, options = make(name, torch.float64)
    outputs = run(tensors, options)
    cotangents = cotangents_of(outputs)
    complete = gradients(cotangents, outputs[3], tensors, options)
    alone = [
        gradients([c if i == k else None for k, c in enumerate(cotangents)], outputs[3], tensors, options)
        for i in range(3)
    ]
    for k, whole in enumerate(complete):
        assert_close(sum(parts[k] for parts in alone), whole, torch.float64, f"sum of parts {GRADIENTS[k]}")
        one = gradients(cotangents, outputs[3], tensors, options, 1 << k)
        assert torch.equal(one[k], whole)
        assert all(g.shape == (0,) for i, g in enumerate(one) if i != k)


@pytest.mark.parametrize("name", ["pigan", "one_pass", "many_images"])
def test_threads(cpu_level_or_bf16, one_and_two_threads, name):
    """Rays are the same bits for any number of threads, sums over rays for the same number."""
    tensors, options = make(name, torch.float32)
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        outputs = run(tensors, options)
        grads = gradients(cotangents_of(outputs), outputs[3], tensors, options)
        again = gradients(cotangents_of(outputs), outputs[3], tensors, options)
        assert all(torch.equal(a, b) for a, b in zip(grads, again, strict=True))
        results.append((outputs, grads))
    (one, one_grads), (two, two_grads) = results
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    for name, a, b in zip(GRADIENTS, one_grads, two_grads, strict=True):
        if name in ("origins", "directions"):
            assert torch.equal(a, b)
        else:
            assert_close(a, b.double(), torch.float32, name)


def test_order_of_equal_depths(cpu_level_or_bf16):
    """A fine sample at the depth of a coarse one comes first; noise belongs to places in the order, not to samples."""
    tensors, options = make("trunk_features", torch.float64)
    tensors["jitter"].fill_(0.5)
    tensors["u"].fill_(0.5)
    wanted = reference.render_rays(*tensors.values(), **options)
    for name, output, expected in zip(OUTPUTS, run(tensors, options), wanted, strict=True):
        assert_close(output, expected, torch.float64, name)


def test_extreme_densities(cpu_level_or_bf16):
    """Empty rays, and rays that are opaque at once: everything stays finite."""
    for bias in (-1e30, 1e30):
        tensors, options = make("one_pass", torch.float32)
        widths = options["widths"]
        before = sum(O * (I + 1) for O, I in zip(widths, [3, *widths[:-1]], strict=True))
        tensors["parameters"][before + widths[-1]] = bias  # of the density
        outputs = run(tensors, options)
        grads = gradients(cotangents_of(outputs), outputs[3], tensors, options)
        assert all(t.isfinite().all() for t in (*outputs, *grads))
        place = 0 if bias > 0 else -1  # the first sample is opaque; the last one takes what nothing absorbed
        assert (outputs[2][..., place] == 1).all()
