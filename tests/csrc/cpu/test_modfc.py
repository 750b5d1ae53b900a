"""modfc's CPU kernels at each SIMD level: awkward sizes, every dtype and option, strided noise, skip and colours,
threads."""

import pytest
import torch

from cips3d_ext import reference

from ._compare import BFLOAT16_PRODUCTS_TOLERANCE, TOLERANCE, assert_close, check_op

# (B, N, I, O): odd channel counts, one point a sample, samples across tiles of 96 rows, nothing at all.
SIZES = [
    (2, 5, 3, 7),
    (1, 1, 35, 37),
    (3, 100, 37, 95),
    (200, 1, 16, 33),
    (2, 97, 95, 259),
    (100, 3, 64, 3),
    (0, 3, 4, 5),
    (2, 0, 4, 5),
    (2, 3, 4, 0),
    (2, 3, 0, 5),
]
NOTHING = (torch.empty(0), torch.empty(0))  # kept of forward
ALL_GRADIENTS = 0b1111111
OPTIONS = {
    "scale": 0.7,
    "style_offset": 1.0,
    "demodulate": True,
    "eps": 1e-8,
    "activation": "lrelu",
    "alpha": 0.2,
    "gain": 1.4,
    "clamp": None,
    "reduced_precision": False,
}


def inputs(sizes, noise="full", colours=3):
    """x, weight, style, bias, noise, skip, to_rgb."""
    B, N, I, O = sizes
    torch.manual_seed(0)
    noises = {
        "none": None,
        "full": torch.randn(B, N, O),
        "points": torch.randn(N, 1).expand(B, N, O),
        "samples_and_points": torch.randn(B, N, 1).expand(B, N, O),
        "transposed": torch.randn(B, O, N).transpose(1, 2),
    }
    tensors = [torch.randn(B, N, I), torch.randn(O, I), torch.randn(B, I), torch.randn(O), noises[noise]]
    return [*tensors, torch.randn(B, N, O), torch.randn(colours, O)]


def check(tensors, options, dtype, keep, tolerance=None, used=(True, True)):
    """y and rgb where there is to_rgb, and all gradients; y is the result that backward may take."""
    check_op("modfc", reference.modfc_with_rgb, tensors, options, dtype, keep, tolerance, (0,), used)


def tolerance(level, dtype):
    return BFLOAT16_PRODUCTS_TOLERANCE if level == "avx512bf16" and dtype == torch.bfloat16 else TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", SIZES)
def test_sizes(cpu_level_or_bf16, sizes, dtype):
    # sin: smooth, so that rounding an argument cannot move it across a kink
    options, allowed = OPTIONS | {"activation": "sin"}, tolerance(cpu_level_or_bf16, dtype)
    check(inputs(sizes), options, dtype, "linear", allowed)


@pytest.mark.parametrize(
    "changed",
    [
        {"activation": "linear"},
        {"activation": "linear", "demodulate": False},
        {"activation": "relu"},
        {"activation": "lrelu", "alpha": 0.1},
        {"activation": "lrelu", "clamp": 0.5},
        {"activation": "sin", "clamp": 0.5, "demodulate": False},
        {"activation": "linear", "clamp": 1.0, "eps": 0.1},
        {"activation": "relu", "demodulate": False, "scale": 0.1, "style_offset": 0.0},
    ],
)
def test_options(cpu_level_or_bf16, changed):
    """Whatever is kept of forward, and if nothing is: with few points a sample, and with samples of several tiles."""
    options = OPTIONS | changed
    keeps = {"", "linear"}
    if options["activation"] != "sin":
        keeps.add("branches")
        if options["activation"] == "linear" and options["clamp"] is None:
            keeps.add("demodulation")
    for keep in sorted(keeps):
        check(inputs((3, 70, 21, 19)), options, torch.float64, keep)
        check(inputs((2, 131, 5, 7)), options, torch.float32, keep)


@pytest.mark.parametrize("noise", ["none", "points", "samples_and_points", "transposed"])
def test_noise_is_read_through_its_strides(cpu_level_or_bf16, noise):
    tensors = inputs((3, 50, 9, 21), noise)
    check(tensors, OPTIONS | {"activation": "sin"}, torch.float32, "linear")
    tensors[3] = None
    check(tensors, OPTIONS, torch.float64, "branches")


@pytest.mark.parametrize("used", [(True, True), (False, True), (True, False)], ids=["both", "rgb", "y"])
@pytest.mark.parametrize("colours", [1, 2, 4])
def test_colours(cpu_level_or_bf16, colours, used):
    tensors = inputs((3, 70, 21, 67), colours=colours)
    check(tensors, OPTIONS, torch.float64, "branches", used=used)
    check(tensors, OPTIONS, torch.float32, "linear", used=used)
    tensors[5] = None
    check(tensors, OPTIONS, torch.float64, "branches", used=used)


def test_neither_skip_nor_colours(cpu_level_or_bf16):
    tensors = inputs((3, 70, 21, 67))
    tensors[6] = None
    check(tensors, OPTIONS, torch.float64, "branches")
    tensors[5] = None
    check(tensors, OPTIONS, torch.float64, "branches")


def test_large_skips_are_written_past_the_caches(cpu_level_or_bf16):
    check(inputs((1, 8200, 3, 128)), OPTIONS, torch.float32, "branches")


@pytest.mark.parametrize("sizes", [(2, 300, 35, 37), (3, 97, 33, 5)])
def test_half_types_of_many_points(cpu_level_or_bf16, sizes):
    """The sum of each sample's own weight gradient; pairs of rows that begin at odd rows of a tile."""
    options = OPTIONS | {"activation": "linear"}
    for dtype in (torch.bfloat16, torch.float16):
        allowed = tolerance(cpu_level_or_bf16, dtype)
        check(inputs(sizes), options, dtype, "demodulation", allowed)


def test_only_the_wanted_gradients(cpu_level_or_bf16):
    tensors = inputs((2, 50, 6, 9))
    backward = torch.ops.cips3d_ext.modfc_backward
    grads_and_y = (torch.randn(2, 50, 9), torch.randn(2, 50, 3), torch.randn(2, 50, 9))
    for demodulate in (True, False):
        options = (OPTIONS | {"activation": "linear", "demodulate": demodulate}).values()
        every = backward(*grads_and_y, *NOTHING, *tensors, *options, ALL_GRADIENTS)
        for index in range(7):
            grads = backward(*grads_and_y, *NOTHING, *tensors, *options, 1 << index)
            assert [grad.shape == (0,) for grad in grads] == [i != index for i in range(7)]
            assert torch.equal(grads[index], every[index])


def test_deterministic_and_independent_of_threads(cpu_level_or_bf16, one_and_two_threads):
    tensors = inputs((130, 11, 19, 21))
    grads_and_y = (torch.randn(130, 11, 21), torch.randn(130, 11, 3), torch.randn(130, 11, 21))
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        runs = [
            [
                *torch.ops.cips3d_ext.modfc(*tensors, *OPTIONS.values(), "")[:2],
                *torch.ops.cips3d_ext.modfc_backward(
                    *grads_and_y, *NOTHING, *tensors, *OPTIONS.values(), ALL_GRADIENTS
                ),
            ]
            for _ in range(2)
        ]
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
        results.append(runs[0])
    for index, (one, two) in enumerate(zip(*results, strict=True)):
        if index == 3:  # grad_weight adds up one partial sum a thread
            assert_close(two, one.double(), torch.float32, "grad_weight")
        else:
            assert torch.equal(one, two)


def test_relu_of_minus_infinity_is_zero(cpu_level_or_bf16):
    x, one = torch.tensor([float("-inf"), -1.0, 2.0, float("nan")]).reshape(1, 4, 1), torch.ones(1, 1)
    options = OPTIONS | {"demodulate": False, "style_offset": 0.0, "scale": 1.0, "gain": 1.0, "activation": "relu"}
    found = torch.ops.cips3d_ext.modfc(x, one, one, None, None, None, None, *options.values(), "")[0]
    torch.testing.assert_close(found, reference.modfc(x, one, one, **options), rtol=0, atol=0, equal_nan=True)


def test_nan_stays_nan_and_clamp_limits_infinity(cpu_level_or_bf16):
    x = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.5]).reshape(1, 4, 1)
    one = torch.ones(1, 1)
    options = (OPTIONS | {"demodulate": False, "style_offset": 0.0, "scale": 1.0, "gain": 1.0, "clamp": 2.0}).values()
    found = torch.ops.cips3d_ext.modfc(x, one, one, None, None, None, None, *options, "")[0].flatten()
    wanted = torch.tensor([float("nan"), 2.0, -2.0, 0.5])
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
