"""Every wrong shape, dtype, device or option is refused; the message names op, argument, what was wanted and seen."""

import pytest
import torch

import cips3d_ext
from cips3d_ext import (
    film_sine,
    merge_samples,
    modfc,
    modfc_with_rgb,
    render_rays,
    sample_pdf,
    sample_planes,
    sample_volume,
    siren_field,
    volume_render,
)

T = torch.ones

ERRORS = [
    (lambda: modfc(T(2, 3), T(4, 3), T(2, 3)), ValueError, r"modfc: x must be \[B,N,I\].*\[2, 3\]"),
    (lambda: modfc(T(2, 5, 3), T(4, 7), T(2, 3)), ValueError, r"modfc: weight must be \[O,I\] = \[any, 3\].*\[4, 7\]"),
    (lambda: modfc(T(2, 5, 3), T(4, 3), T(3, 3)), ValueError, r"modfc: style must be \[B,I\] = \[2, 3\].*\[3, 3\]"),
    (lambda: modfc(T(2, 5, 3), T(4, 3), T(2, 3), T(3)), ValueError, r"modfc: bias must be \[O\] = \[4\].*\[3\]"),
    (lambda: modfc(T(2, 5, 3), T(4, 3), T(2, 3), None, T(7)), ValueError, r"modfc: noise must be broadcastable.*\[7\]"),
    (lambda: modfc(T(2, 5, 3), T(4, 3), T(2, 3), activation="gelu"), ValueError, "modfc: activation .*'gelu'"),
    (lambda: modfc(T(2, 5, 3), T(4, 3), T(2, 3), clamp=-1.0), ValueError, "modfc: clamp .*-1"),
    (
        lambda: modfc(T(2, 5, 3), T(4, 3), T(2, 3), skip=T(2, 5, 3)),
        ValueError,
        r"modfc: skip must be \[B,N,O\] = \[2, 5, 4\].*\[2, 5, 3\]",
    ),
    (
        lambda: modfc(T(2, 3), T(4, 3), T(2, 3), channels_first=True),
        ValueError,
        r"modfc: x must be \[B,I,N\].*\[2, 3\]",
    ),
    (
        lambda: modfc(T(2, 5, 3), T(4, 3), T(2, 3), channels_first=True),
        ValueError,
        r"modfc: weight must be \[O,I\] = \[any, 5\].*\[4, 3\]",
    ),
    (
        lambda: modfc(T(2, 3, 5), T(4, 3), T(2, 3), None, T(4), channels_first=True),
        ValueError,
        r"modfc: noise must be broadcastable to \[B,O,N\] = \[2, 4, 5\].*\[4\]",
    ),
    (
        lambda: modfc(T(2, 3, 5), T(4, 3), T(2, 3), skip=T(2, 5, 4), channels_first=True),
        ValueError,
        r"modfc: skip must be \[B,O,N\] = \[2, 4, 5\].*\[2, 5, 4\]",
    ),
    (
        lambda: modfc_with_rgb(T(2, 3, 5), T(4, 3), T(2, 3), T(3, 4), channels_first=True),
        ValueError,
        r"modfc: to_rgb needs rows x \[B,N,I\], got channels_first=True; transpose x",
    ),
    (
        lambda: modfc_with_rgb(T(2, 5, 3), T(4, 3), T(2, 3), T(3, 5)),
        ValueError,
        r"modfc: to_rgb must be \[K,O\] = \[any, 4\].*\[3, 5\]",
    ),
    (
        lambda: modfc_with_rgb(T(2, 5, 3), T(4, 3), T(2, 3), T(5, 4)),
        ValueError,
        r"modfc: to_rgb must be \[K,O\] with K from 1 to 4, got \[5, 4\]; .*functional.linear",
    ),
    (lambda: modfc_with_rgb(T(2, 5, 3), T(4, 3), T(2, 3), None), TypeError, "modfc: to_rgb must be .*cips3d_ext.modfc"),
    (lambda: modfc_with_rgb(T(2, 5, 3), T(4, 3), T(2, 3), T(3, 4), slope=1), TypeError, "slope"),
    (
        lambda: modfc(T(2, 5, 3), T(4, 3).double(), T(2, 3)),
        TypeError,
        r"modfc: weight is torch.float64 but x .*weight.to",
    ),
    (lambda: modfc(T(2, 5, 3).int(), T(4, 3), T(2, 3)), TypeError, "modfc: x must be float64.*int32"),
    (lambda: modfc([[1.0]], T(4, 3), T(2, 3)), TypeError, r"modfc: x must be a torch.Tensor, got list"),
    (lambda: modfc(T(2, 5, 3), T(4, 3).to_sparse(), T(2, 3)), TypeError, "modfc: weight must be a dense tensor"),
    (
        lambda: modfc(T(2, 5, 3), T(4, 3, device="meta"), T(2, 3)),
        ValueError,
        "modfc: weight is on meta but x is on cpu",
    ),
    (lambda: film_sine(T(3), T(4, 3)), ValueError, r"film_sine: x must be \[B,\*,I\]"),
    (lambda: film_sine(T(2, 3), T(4, 5)), ValueError, r"film_sine: weight must be \[O,I\] = \[any, 3\]"),
    (lambda: film_sine(T(2, 3), T(4, 3), T(5)), ValueError, r"film_sine: bias must be \[O\] = \[4\]"),
    (lambda: film_sine(T(2, 3), T(4, 3), None, T(1, 4)), ValueError, r"film_sine: gamma must be \[B,O\] = \[2, 4\]"),
    (lambda: film_sine(T(2, 3), T(4, 3), beta=T(2, 5)), ValueError, r"film_sine: beta must be \[B,O\] = \[2, 4\]"),
    (lambda: volume_render(T(2, 3), None, T(2, 3)), ValueError, r"volume_render: density must be \[B,R,S\]"),
    (lambda: volume_render(T(1, 2, 3), None, T(1, 2, 4)), ValueError, r"volume_render: depths must be .* \[1, 2, 3\]"),
    (lambda: volume_render(T(1, 2, 3), T(1, 2, 3), T(1, 2, 3)), ValueError, r"volume_render: features .*\[B,R,S,C\]"),
    (lambda: volume_render(T(1, 2, 0), None, T(1, 2, 0)), ValueError, r"needs at least 1 samples a ray, got S = 0"),
    (lambda: volume_render(T(1, 2, 1), None, T(1, 2, 1), rule="midpoint"), ValueError, r"needs at least 2 samples"),
    (lambda: volume_render(T(1, 2, 3), None, T(1, 2, 3), rule="right"), ValueError, r"rule must be one of"),
    (lambda: volume_render(T(1, 2, 3), None, T(1, 2, 3), depth="max"), ValueError, r"depth must be one of"),
    (lambda: volume_render(T(1, 2, 3), None, T(1, 2, 3), beta=T(2)), ValueError, r"beta must be a number or"),
    (lambda: volume_render(T(1, 2, 3), None, T(1, 2, 3), ray_norm=T(1, 3)), ValueError, r"ray_norm must be \[B,R\]"),
    (lambda: volume_render(T(1, 2, 3), None, T(1, 2, 3), noise=T(1, 2)), ValueError, r"noise must be \[B,R,S\]"),
    (
        lambda: sample_pdf(T(2, 3), T(2, 3), 4, u=T(2, 4)),
        ValueError,
        r"sample_pdf: needs at least one weight, and bins",
    ),
    (lambda: sample_pdf(T(2, 4), T(2, 3), 5, u=T(2, 4)), ValueError, r"sample_pdf: u must have n = 5"),
    (lambda: sample_pdf(T(2, 4), T(3, 3), 4, u=T(2, 4)), ValueError, r"sample_pdf: weights must be \[2\] \+ \[size\]"),
    (lambda: merge_samples(T(2, 3), T(3, 3)), ValueError, r"merge_samples: z_b must be \[\*,Sb\] = \[2, any\]"),
    (lambda: merge_samples(T(2, 3), T(2, 4), (T(2, 3, 5), T(2, 4, 6))), ValueError, r"both tensors of pairs\[0\]"),
    (lambda: merge_samples(T(2, 3), T(2, 4), T(2, 3), T(2, 4)), TypeError, r"pairs\[0\] must be a pair .*got Tensor"),
    (lambda: merge_samples(T(2, 3), T(2, 4), (T(2, 4), T(2, 4))), ValueError, r"pairs\[0\]\[0\] must be \[2, 3\]"),
]


PLANES, POINTS = T(2, 3, 4, 5, 6), T(2, 7, 3)
ERRORS += [
    (lambda: sample_planes(T(2, 3, 4, 5), POINTS), ValueError, r"sample_planes: planes must be \[B,P,C,H,W\]"),
    (
        lambda: sample_planes(PLANES, T(2, 7, 2)),
        ValueError,
        r"points must be \[B,N,3\] = \[2, any, 3\], got \[2, 7, 2\]",
    ),
    (
        lambda: sample_planes(PLANES, T(1, 7, 3)),
        ValueError,
        r"points must be \[B,N,3\] = \[2, any, 3\], got \[1, 7, 3\]",
    ),
    (lambda: sample_planes(T(2, 3, 4, 0, 6), POINTS), ValueError, r"at least one texel along each axis, got \[0, 6\]"),
    (lambda: sample_planes(T(2, 2, 4, 5, 6), POINTS), ValueError, r"axes must hold one pair .* each plane, 2,.* got 3"),
    (lambda: sample_planes(PLANES, POINTS, axes=((0, 1), (1, 2), (0, 3))), ValueError, "coordinates 0, 1 and 2, got"),
    (lambda: sample_planes(PLANES, POINTS, axes=((0, 1, 2),) * 3), ValueError, "axes must be pairs of the coordinates"),
    (lambda: sample_planes(PLANES, POINTS, padding="reflection"), ValueError, "padding must be one of .*'reflection'"),
    (lambda: sample_planes(PLANES, POINTS, reduce="max"), ValueError, "sample_planes: reduce must be one of .*'max'"),
    (lambda: sample_planes(PLANES, POINTS.int()), TypeError, "sample_planes: points must be float64.*int32"),
    (lambda: sample_volume(T(2, 4, 5, 6), POINTS), ValueError, r"sample_volume: volume must be \[B,C,D,H,W\]"),
    (lambda: sample_volume(PLANES, T(2, 3)), ValueError, r"sample_volume: points must be \[B,N,3\] = \[2, any, 3\]"),
    (lambda: sample_volume(T(2, 4, 5, 0, 6), POINTS), ValueError, r"one texel along each axis, got \[5, 0, 6\]"),
    (
        lambda: sample_volume(PLANES, POINTS, padding="zero"),
        ValueError,
        "sample_volume: padding must be one of .*'zero'",
    ),
    (lambda: sample_volume(PLANES, POINTS.to("meta")), ValueError, "points is on meta but volume is on cpu"),
]


def field(shape=(2, 6, 3), rays=None, **changes):
    """siren_field of two trunk layers, 3 -> 4 -> 5, a colour layer of 4 and 2 features; `changes` replace arguments."""
    given = {
        "layers": [(T(4, 3), T(4)), (T(5, 4), T(5))],
        "density": (T(1, 5), T(1)),
        "colour": (T(4, 5 + 3 * (rays is not None)), T(4)),
        "feature": (T(2, 4), T(2)),
        "directions": None if rays is None else T(2, rays, 3),
    }
    return siren_field(T(*shape), **(given | changes))


ERRORS += [
    (lambda: field((3,)), ValueError, r"siren_field: points must be \[B,\*,3\] with at least two axes, got \[3\]"),
    (lambda: field((2, 6, 4)), ValueError, r"siren_field: points must be \[B,N,3\] = \[any, any, 3\], got \[2, 6, 4\]"),
    (lambda: field(layers=[]), ValueError, "siren_field: layers must be 1 to 8 trunk layers, got 0"),
    (lambda: field(layers=[(T(3, 3), T(3))] * 9, density=(T(1, 3), T(1))), ValueError, "1 to 8 trunk layers, got 9"),
    (lambda: field(layers=[(T(4, 3), T(4)), (T(5, 3), T(5))]), ValueError, r"layers\[1\].weight must be .*\[5, 4\]"),
    (lambda: field(density=(T(2, 5), T(2))), ValueError, r"density.weight must be \[O,I\] = \[1, 5\], got \[2, 5\]"),
    (lambda: field(colour=(T(4, 8), T(4))), ValueError, r"colour.weight must be \[O,I\] = \[4, 5\], got \[4, 8\]"),
    (lambda: field(feature=(T(2, 4), T(3))), ValueError, r"feature.bias must be \[O\] = \[2\], got \[3\]"),
    (lambda: field(feature=None), ValueError, "colour is the layer before the features; give feature="),
    (lambda: field(gamma=[T(2, 4), T(2, 5)]), ValueError, "gamma must hold one tensor .* colour last: 3, got 2"),
    (
        lambda: field(beta=[T(2, 4), T(2, 5), T(2, 3)]),
        ValueError,
        r"beta\[2\] must be \[B,O\] = \[2, 4\], got \[2, 3\]",
    ),
    (lambda: field(rays=4), ValueError, r"number of points must be a multiple of the R of directions .* 6 points"),
    (lambda: field(colour=None, feature=None, directions=T(2, 3, 3)), ValueError, "directions enter the colour layer"),
    (lambda: field(density=(T(1, 5).double(), T(1))), TypeError, "density.weight is torch.float64 but points is"),
    (lambda: field(gamma=[T(2, 4), T(2, 5), 1.0]), TypeError, r"gamma\[2\] must be a torch.Tensor, got float"),
]


def rays(**changes):
    """render_rays of 2 x 4 rays of 5 + 6 samples through a field of one layer; `changes` replace arguments."""
    given = {
        "origins": T(2, 4, 3),
        "directions": T(2, 4, 3),
        "layers": [(T(4, 3), T(4))],
        "density": (T(1, 4), T(1)),
        "colour": None,
        "feature": (T(2, 4), T(2)),
        "near": 0.5,
        "far": 1.5,
        "jitter": T(2, 4, 5),
        "u": T(2, 4, 6),
    }
    return render_rays(**(given | changes))


ERRORS += [
    (lambda: rays(origins=T(2, 4)), ValueError, r"render_rays: origins must be \[B,R,3\] = \[any, any, 3\]"),
    (
        lambda: rays(directions=T(2, 5, 3)),
        ValueError,
        r"render_rays: directions must be .*\[2, 4, 3\], got \[2, 5, 3\]",
    ),
    (lambda: rays(jitter=T(4, 5)), ValueError, r"render_rays: jitter must be \[B,R,S\] = \[2, 4, any\], got \[4, 5\]"),
    (lambda: rays(jitter=T(2, 4, 2)), ValueError, "jitter must have at least 3 samples a ray, got S = 2"),
    (lambda: rays(jitter=T(2, 4, 1), u=None), ValueError, "jitter must have at least 2 samples a ray, got S = 1"),
    (lambda: rays(u=T(2, 1, 6)), ValueError, r"render_rays: u must be \[B,R,F\] = \[2, 4, any\], got \[2, 1, 6\]"),
    (lambda: rays(noise=T(2, 4, 5)), ValueError, r"noise must be \[B,R,M\] = \[2, 4, 11\], got \[2, 4, 5\]"),
    (lambda: rays(u=None, noise_coarse=T(2, 4, 5)), ValueError, "noise_coarse is for the weights that u samples"),
    (lambda: rays(noise_coarse=T(2, 4, 6)), ValueError, r"noise_coarse must be \[B,R,S\] = \[2, 4, 5\]"),
    (lambda: rays(activation="exp"), ValueError, "render_rays: activation must be one of .* got 'exp'"),
    (lambda: rays(white_back=-1), ValueError, "render_rays: white_back must be a bool or a number of channels"),
    (lambda: rays(view_directions=True), ValueError, "render_rays: directions enter the colour layer; give colour="),
    (
        lambda: rays(density=(T(1, 3), T(1))),
        ValueError,
        r"render_rays: density.weight must be .*\[1, 4\], got \[1, 3\]",
    ),
    (lambda: rays(jitter=T(2, 4, 5).double()), TypeError, "render_rays: jitter is torch.float64 but origins is"),
    (lambda: rays(u=0.5), TypeError, "render_rays: u must be a torch.Tensor, got float"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=range(len(ERRORS)))
def test_message(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_the_dispatcher_ops_check_for_themselves():
    """Direct callers of torch.ops.cips3d_ext get an error too, never a crash."""
    op = torch.ops.cips3d_ext.modfc
    options = (1.0, 0.0, True, 1e-8, "linear", 0.2, 1.0, None, False, False, "")
    with pytest.raises(RuntimeError, match="modfc.*weight"):
        op(T(2, 5, 3), T(4, 7), T(2, 3), None, None, None, None, *options)
    with pytest.raises(RuntimeError, match="modfc"):
        op(T(2, 5, 3), T(4, 3).double(), T(2, 3), None, None, None, None, *options)
    with pytest.raises(RuntimeError, match="modfc: keep must be .*everything"):
        op(T(2, 5, 3), T(4, 3), T(2, 3), None, None, None, None, *options[:-1], "everything")
    with pytest.raises(RuntimeError, match=r"modfc: skip must be \[B,N,O\].*\[2,5,3\]"):
        op(T(2, 5, 3), T(4, 3), T(2, 3), None, None, T(2, 5, 3), None, *options)
    for to_rgb, message in [(T(3, 5), r"\[K,O\].*\[3,5\]"), (T(5, 4), r"1 to 4 colours, got \[5,4\]")]:
        with pytest.raises(RuntimeError, match=f"modfc: to_rgb must .*{message}"):
            op(T(2, 5, 3), T(4, 3), T(2, 3), None, None, None, to_rgb, *options)
    with pytest.raises(RuntimeError, match=r"modfc: to_rgb needs rows x \[B,N,I\], not channels_first"):
        op(T(2, 3, 5), T(4, 3), T(2, 3), None, None, None, T(3, 4), *options[:-2], True, "")
    inputs = (T(2, 5, 3), T(4, 3), T(2, 3), None, None, None, None)
    backward, nothing = torch.ops.cips3d_ext.modfc_backward, T(0)
    for kept, d, message in [
        (T(2, 5, 3), nothing, r"kept must be \[B,N,O\].*\[2,5,3\]"),
        (T(2, 5, 4).double(), nothing, "kept must be .*uint8"),
        (nothing, T(2, 3), r"demodulation must be \[B,O\].*\[2,3\]"),
        (nothing, T(2, 4).half(), "demodulation must be"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            backward(T(2, 5, 4), None, None, kept, d, *inputs, *options[:-1], 31)
    for grad_rgb, to_rgb, message in [
        (T(2, 5, 3), None, "grad_rgb needs to_rgb"),
        (T(2, 5, 2), T(3, 4), r"grad_rgb must be \[B,N,K\].*\[2,5,2\]"),
        (T(2, 5, 3), T(3, 4), "the gradient of to_rgb needs y"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            backward(None, grad_rgb, None, nothing, nothing, *inputs[:-1], to_rgb, *options[:-1], 127)
    film, options = torch.ops.cips3d_ext.film_sine, (1.0, 0.0, 1.0, False)
    with pytest.raises(RuntimeError, match="film_sine: weight must be"):
        film(T(2, 5, 3), T(4, 7), None, None, None, *options, "")
    with pytest.raises(RuntimeError, match="film_sine: keep must be .*everything"):
        film(T(2, 5, 3), T(4, 3), None, None, None, *options, "everything")
    for linear, message in [
        (T(2, 5, 3), r"linear must be \[B,N,O\].*\[2,5,3\]"),
        (T(2, 5, 4).half(), "linear must be"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            torch.ops.cips3d_ext.film_sine_backward(
                T(2, 5, 4), linear, T(2, 5, 3), T(4, 3), None, None, None, *options, 31
            )
    with pytest.raises(RuntimeError, match=r"film_sine_second: grad_grad_gamma must be \[B,O\].*\[2,3\]"):
        torch.ops.cips3d_ext.film_sine_second(
            None, T(2, 3), None, T(2, 5, 4), nothing, T(2, 5, 3), T(4, 3), None, None, None, *options, 63
        )
    with pytest.raises(RuntimeError, match="merge_samples"):
        torch.ops.cips3d_ext.merge_samples(T(2, 3), T(3, 3))
    with pytest.raises(RuntimeError, match="sample_pdf"):
        torch.ops.cips3d_ext.sample_pdf(T(2, 3), T(2, 3), T(2, 4), 1e-5, False)


@pytest.mark.parametrize("entry", [-1, 5])
def test_a_wrong_order_is_refused_before_memory_is_touched(entry):
    order = torch.tensor([[0, 1, 2, 3, entry]])
    with pytest.raises(RuntimeError, match=r"merge_samples_gather: order must hold positions in \[0, 5\)"):
        torch.ops.cips3d_ext.merge_samples_gather(T(1, 3, 2), T(1, 2, 2), order)
    with pytest.raises(RuntimeError, match=r"merge_samples_scatter: order must hold positions in \[0, 5\)"):
        torch.ops.cips3d_ext.merge_samples_scatter(T(1, 5, 2), order, 3)


def test_large_white_back_counts_are_limited_to_the_channels():
    density, features, depths = torch.zeros(1, 1, 2), torch.zeros(1, 1, 2, 3), torch.tensor([[[1.0, 2.0]]])
    some = cips3d_ext.volume_render(density, features, depths, white_back=2).feature
    every = cips3d_ext.volume_render(density, features, depths, white_back=7).feature
    assert some.flatten().tolist() == [1.0, 1.0, 0.0] and every.flatten().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("impl", ["fused", "reference"])
def test_the_y_that_the_gradient_of_to_rgb_needs_cannot_be_written_unnoticed(impl):
    x, to_rgb = T(2, 5, 3).requires_grad_(), T(3, 4).requires_grad_()
    y, rgb = modfc_with_rgb(x, T(4, 3), T(2, 3), to_rgb, impl=impl)
    y.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rgb.sum().backward()
    y, rgb = modfc_with_rgb(x, T(4, 3), T(2, 3), to_rgb.detach(), impl="fused")
    y.mul_(2.0)  # nobody needs it
    rgb.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
