"""SirenField: the op with affine frequencies and phases, shared styles, views, names, initialisation, errors."""

import math

import pytest
import torch

import cips3d_ext
from cips3d_ext import SirenField, reference

B, R, S, STYLE = 4, 3, 5, 7
WIDTHS, COLOUR, C = (6, 9), 8, 2


def make(impl: str = "reference", widths=WIDTHS, colour=COLOUR, features=C, **options) -> SirenField:
    torch.manual_seed(0)
    return SirenField(STYLE, widths, colour, features, impl=impl, **options).double()


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """points, style codes, directions."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return normal(B, R, S, 3) / 8, normal(B, STYLE), normal(B, R, 3)


def test_is_a_stack_of_film_sine_layers():
    points, w, _ = inputs()
    field = make(point_scale=2.0, beta_scale=0.25)
    x = 2.0 * points
    for layer in field.layers:
        x = layer(x, w)
    out = field(points, w)
    torch.testing.assert_close(out.density, field.density(x)[..., 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out.features, field.feature(field.colour(x, w)), rtol=1e-12, atol=1e-12)


def test_directions_enter_the_colour_layer():
    points, w, directions = inputs()
    field = make(view_directions=True)
    x = points
    for layer in field.layers:
        x = layer(x, w)
    seen = torch.cat([directions[:, :, None].expand(B, R, S, 3), x], -1)
    out = field(points, w, directions)
    torch.testing.assert_close(out.density, field.density(x)[..., 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out.features, field.feature(field.colour(seen, w)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("view", [False, True])
def test_fewer_styles_and_films_given(view):
    points, w, directions = inputs()
    field = make(view_directions=view)
    views = (directions,) if view else ()
    expected = field(points, w[:2].repeat_interleave(2, 0), *views)
    for found in (field(points, w[:2], *views), field(points, field.films(w[:2].repeat_interleave(2, 0)), *views)):
        for got, want in zip(found, expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_auto_gives_what_the_reference_gives_and_its_gradients():
    points, w, _ = inputs()
    results = []
    for impl in ("reference", "auto"):
        field = make(impl)
        out = field(points, w)
        (out.features.square().sum() + out.density.sum()).backward()
        results.append([*out, *(p.grad for p in field.parameters())])
    for got, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_second_order_passes_through():
    points, w, _ = inputs()
    field, code = make("auto"), w.clone().requires_grad_()
    (first,) = torch.autograd.grad(field(points, code).features.square().sum(), code, create_graph=True)
    first.square().sum().backward()
    assert all(p.grad.isfinite().all() for n, p in field.named_parameters() if not n.startswith("density"))


def test_heads_may_be_left_out():
    points, w, _ = inputs()
    alone = make(colour=0, features=0)(points, w)
    assert alone.features is None and alone.density.shape == (B, R, S)
    assert make(colour=0)(points, w).features.shape == (B, R, S, C)
    assert make(widths=(5,))(points, w).features.shape == (B, R, S, C)


def test_state_dict_names_do_not_depend_on_impl():
    film = [f"{name}{part}" for name in ("", "gamma.", "beta.") for part in ("weight", "bias")]
    names = [f"layers.{k}.{n}" for k in range(2) for n in film]
    names += ["density.weight", "density.bias", *(f"colour.{n}" for n in film), "feature.weight", "feature.bias"]
    states = [make(impl).state_dict() for impl in ("reference", "auto", "fused")]
    assert all(list(state) == names for state in states)
    assert all(torch.equal(states[0][n], state[n]) for state in states for n in names)


def test_initialisation():
    torch.manual_seed(0)
    field = SirenField(100, [64, 64], 256, 128)
    assert field.feature.weight.std().item() == pytest.approx(math.sqrt(2 / 1.04 / 256), rel=0.05)
    bound = math.sqrt(6 / 64) / 25
    assert 0.95 * bound < field.layers[1].weight.abs().max().item() <= bound


def test_arguments_are_the_op_s():
    points, w, _ = inputs()
    field = make("auto", point_scale=3.0)
    films = field.films(w)
    out = cips3d_ext.siren_field(points, **field.arguments(), gamma=films.gamma, beta=films.beta)
    assert all(torch.equal(a, b) for a, b in zip(out, field(points, w), strict=True))
    shapes = [tuple(w.shape) for w, _ in (*field.arguments()["layers"], *(field.arguments()[n] for n in HEADS))]
    assert shapes == reference.siren_field_shapes(list(WIDTHS), COLOUR, C, False)


HEADS = ("density", "colour", "feature")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: make(features=0), "a colour layer needs features .*features=0"),
        (lambda: make(colour=0, view_directions=True), "directions need a colour layer"),
        (lambda: make("fast"), "SirenField: impl must be one of"),
        (lambda: make()(*inputs()), "view_directions=False, so directions must be None"),
        (lambda: make(view_directions=True)(*inputs()[:2]), r"so directions must be \[B,R,3\], got None"),
        (lambda: make()(inputs()[0], inputs()[1][:3]), r"SirenField: the batch of x must be a multiple"),
        (lambda: make()(inputs()[0], inputs()[1][:, 1:]), r"w must be \[B',style_dim\] = \[any, 7\], got \[4, 6\]"),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_representation():
    assert "view_directions=True, point_scale=2.0, impl='auto'" in repr(
        make("auto", view_directions=True, point_scale=2.0)
    )
