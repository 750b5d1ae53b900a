"""modfc's CPU kernels at each SIMD level, for rows and for channels first: awkward sizes, every dtype and option,
strided noise, skip and colours, threads."""

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
    "channels_first": False,
}
both_layouts = pytest.mark.parametrize("channels_first", [False, True], ids=["rows", "channels_first"])


def inputs(sizes, noise="full", colours=3, channels_first=False):
    """x, weight, style, bias, noise, skip, to_rgb; with channels first there is none."""
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
    tensors += [torch.randn(B, N, O), torch.randn(colours, O)]
    if channels_first:
        x, noise, skip = (t if t is None else t.mT for t in (tensors[0], tensors[4], tensors[5]))
        tensors = [x.contiguous(), *tensors[1:4], noise, skip.contiguous(), None]
    return tensors


def check(tensors, options, dtype, keep, tolerance=None, used=(True, True)):
    """y and rgb where there is to_rgb, and all gradients; y is the result that backward may take."""
    used = (used[0], False) if options["channels_first"] else used
    check_op("modfc", reference.modfc_with_rgb, tensors, options, dtype, keep, tolerance, (0,), used)


def tolerance(level, dtype):
    return BFLOAT16_PRODUCTS_TOLERANCE if level == "avx512bf16" and dtype == torch.bfloat16 else TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", SIZES)
@both_layouts
def test_sizes(cpu_level_or_bf16, sizes, dtype, channels_first):
    # sin: smooth, so that rounding an argument cannot move it across a kink
    options = OPTIONS | {"activation": "sin", "channels_first": channels_first}
    check(inputs(sizes, channels_first=channels_first), options, dtype, "linear", tolerance(cpu_level_or_bf16, dtype))


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
@both_layouts
def test_options(cpu_level_or_bf16, changed, channels_first):
    """Whatever is kept of forward, and if nothing is: with few points a sample, and with samples of several tiles."""
    options = OPTIONS | changed | {"channels_first": channels_first}
    keeps = {"", "linear"}
    if options["activation"] != "sin":
        keeps.add("branches")
        if options["activation"] == "linear" and options["clamp"] is None:
            keeps.add("demodulation")
    for keep in sorted(keeps):
        check(inputs((3, 70, 21, 19), channels_first=channels_first), options, torch.float64, keep)
        check(inputs((2, 131, 5, 7), channels_first=channels_first), options, torch.float32, keep)


@pytest.mark.parametrize("noise", ["none", "points", "samples_and_points", "transposed"])
@both_layouts
def test_noise_is_read_through_its_strides(cpu_level_or_bf16, noise, channels_first):
    tensors, options = inputs((3, 50, 9, 21), noise, channels_first=channels_first), {"channels_first": channels_first}
    check(tensors, OPTIONS | {"activation": "sin"} | options, torch.float32, "linear")
    tensors[3] = None
    check(tensors, OPTIONS | options, torch.float64, "branches")


@pytest.mark.parametrize("used", [(True, True), (False, True), (True, False)], ids=["both", "rgb", "y"])
@pytest.mark.parametrize("colours", [1, 2, 4])
def test_colours(cpu_level_or_bf16, colours, used):
    tensors = inputs((3, 70, 21, 67), colours=colours)
    check(tensors, OPTIONS, torch.float64, "branches", used=used)
    check(tensors, OPTIONS, torch.float32, "linear", used=used)
    tensors[5] = None
    check(tensors, OPTIONS, torch.float64, "branches", used=used)


@both_layouts
def test_neither_skip_nor_colours(cpu_level_or_bf16, channels_first):
    options = OPTIONS | {"channels_first": channels_first}
    tensors = inputs((3, 70, 21, 67), channels_first=channels_first)
    tensors[6] = None
    check(tensors, options, torch.float64, "branches")
    tensors[5] = None
    check(tensors, options, torch.float64, "branches")


@both_layouts
def test_large_skips_are_written_past_the_caches(cpu_level_or_bf16, channels_first):
    """In vectors: of 128 outputs, or of 8256 points, a multiple of every level's."""
    options = OPTIONS | {"channels_first": channels_first}
    check(inputs((1, 8256, 3, 128), channels_first=channels_first), options, torch.float32, "branches")


@pytest.mark.parametrize("sizes", [(2, 300, 35, 37), (3, 97, 33, 5)])
@both_layouts
def test_half_types_of_many_points(cpu_level_or_bf16, sizes, channels_first):
    """The sum of each sample's own weight gradient; pairs of rows that begin at odd rows of a tile."""
    options = OPTIONS | {"activation": "linear", "channels_first": channels_first}
    for dtype in (torch.bfloat16, torch.float16):
        allowed = tolerance(cpu_level_or_bf16, dtype)
        check(inputs(sizes, channels_first=channels_first), options, dtype, "demodulation", allowed)


def grads_and_y(tensors, y_shape, colours=3):
    """Cotangents of y and rgb and a y, the last two where there is to_rgb."""
    has_rgb = tensors[6] is not None
    rgb = torch.randn(*y_shape[:2], colours) if has_rgb else None
    return torch.randn(y_shape), rgb, torch.randn(y_shape) if has_rgb else None


@both_layouts
def test_only_the_wanted_gradients(cpu_level_or_bf16, channels_first):
    tensors = inputs((2, 50, 6, 9), channels_first=channels_first)
    backward = torch.ops.cips3d_ext.modfc_backward
    results = grads_and_y(tensors, (2, 9, 50) if channels_first else (2, 50, 9))
    present = [index for index, tensor in enumerate(tensors) if tensor is not None]
    for demodulate in (True, False):
        changed = {"activation": "linear", "demodulate": demodulate, "channels_first": channels_first}
        options = (OPTIONS | changed).values()
        every = backward(*results, *NOTHING, *tensors, *options, ALL_GRADIENTS)
        for index in present:
            grads = backward(*results, *NOTHING, *tensors, *options, 1 << index)
            assert [grad.shape == (0,) for grad in grads] == [i != index for i in range(7)]
            assert torch.equal(grads[index], every[index])


@both_layouts
def test_deterministic_and_independent_of_threads(cpu_level_or_bf16, one_and_two_threads, channels_first):
    tensors = inputs((130, 11, 19, 21), channels_first=channels_first)
    results_and_y = grads_and_y(tensors, (130, 21, 11) if channels_first else (130, 11, 21))
    options = (OPTIONS | {"channels_first": channels_first}).values()
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        runs = [
            [
                *torch.ops.cips3d_ext.modfc(*tensors, *options, "")[:2],
                *torch.ops.cips3d_ext.modfc_backward(*results_and_y, *NOTHING, *tensors, *options, ALL_GRADIENTS),
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
