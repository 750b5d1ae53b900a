"""One case a kind of layer that `accelerate` knows, in small."""

from collections.abc import Callable

import torch

from tests.drop_in.checks import Case
from tests.drop_in.hosts import cips, cips3d, epigraf, pigan, stylegan, stylenerf, stylesdf, volumegan

B, N, I, O, W, SIDE = 2, 6, 5, 7, 4, 3  # samples, points, inputs, outputs, width of codes, pixels


def draw(*shapes: tuple[int, ...]) -> Callable[[], tuple[torch.Tensor, ...]]:
    return lambda: tuple(torch.randn(shape) for shape in shapes)


def film(inputs: int, outputs: int) -> Callable[[], tuple[torch.Tensor, ...]]:
    """As pi-GAN: the frequencies of all layers are one tensor, of which a layer gets a slice."""
    return lambda: (
        torch.randn(B, N, inputs),
        30 + 3 * torch.randn(B, 2 * outputs)[:, outputs:],
        torch.randn(B, outputs),
    )


POINTS, ROWS, PICTURES = (B, N, I), (B, I), (B, I, SIDE, SIDE)
CODES = (B, W)
MANY = 4  # samples: on a CPU few points of fewer run the host's product
MANY_POINTS, MANY_ROWS, MANY_PICTURES = (MANY, N, I), (MANY, I), (MANY, I, SIDE, SIDE)
MANY_CODES, MANY_STYLES = (MANY, W), (MANY, I)
SAMPLES = (3 * B, I, SIDE, SIDE)  # StyleNeRF: three samples of each ray
NOISE = (B, 1, SIDE, SIDE)


def modfc(name: str, make: Callable[[], torch.nn.Module], inputs: Callable, **options) -> Case:
    return Case(name, make, inputs, "modfc", **options)


def sine(name: str, make: Callable[[], torch.nn.Module], inputs: Callable, **options) -> Case:
    return Case(name, make, inputs, "film_sine", **options)


FILM_CASES = [
    sine("pi-GAN-first", lambda: pigan.FiLMLayer(3, 16), film(3, 16)),
    sine("pi-GAN-colour", lambda: pigan.FiLMLayer(35, 16), film(35, 16)),
    sine("CIPS-3D-film", lambda: cips3d.FiLMLayer(I, O, W), draw(POINTS, CODES)),
    sine("CIPS-3D-film-rows", lambda: cips3d.FiLMLayer(I, O, W), draw(ROWS, CODES)),
    sine("CIPS-3D-film-styles", lambda: cips3d.FiLMLayer(I, O, W, use_style_fc=False), draw(POINTS, (B, 2 * O))),
    sine("CIPS-3D-presin", lambda: cips3d.FiLMLayer_PreSin(I, O, W), draw(POINTS, CODES)),
    sine("CIPS-3D-presin-rows", lambda: cips3d.FiLMLayer_PreSin(I, O, W, use_style_fc=False), draw(ROWS, (B, 2 * O))),
    sine("StyleSDF", lambda: stylesdf.FiLMSiren(I, W, W), draw((B, 2, 3, N, I), CODES)),
    sine("CIPS-3D++-image", lambda: stylesdf.PlusPlus.FiLMSiren(I, O, W), draw((B, 2, 3, N, I), CODES)),
    sine("CIPS-3D++-rays", lambda: stylesdf.PlusPlus.FiLMSiren(I, O, W), draw((B, 3, N, I), CODES)),
]
CIPS3D_CASES = [
    modfc(f"CIPS-3D-{kind.__name__}-{name}", lambda kind=kind, options=options: kind(I, O, **options), draw(*shapes))
    for kind in (cips3d.SinStyleMod, cips3d.Modulated_FC_Conv)
    for name, options, shapes in (
        ("bmm", {}, (MANY_POINTS, MANY_STYLES)),
        ("bmm-fc", {"style_dim": W, "use_style_fc": True}, (MANY_POINTS, MANY_CODES)),
        ("bmm-rows", {"demodulate": False}, (MANY_ROWS, MANY_STYLES)),
        ("group", {"use_group_conv": True}, (MANY_POINTS, MANY_STYLES)),
        (
            "group-fc-picture",
            {"use_group_conv": True, "style_dim": W, "use_style_fc": True},
            (MANY_PICTURES, MANY_CODES),
        ),
    )
] + [
    modfc(
        "CIPS-3D-forced-bmm",
        lambda: cips3d.SinStyleMod(I, O, use_group_conv=True),
        draw(MANY_POINTS, MANY_STYLES),
        options={"force_bmm": True},
    ),
    modfc(
        "CIPS-3D-own-scale", lambda: cips3d.Modulated_FC_Conv(I, O, scale=0.5, eps=1e-2), draw(MANY_POINTS, MANY_STYLES)
    ),
]
CIPS_CASES = [
    modfc("CIPS-conv", lambda: cips.ModulatedConv2d(I, O, 1, W), draw(PICTURES, CODES)),
    modfc("CIPS-styled", lambda: cips.StyledConv(I, O, 1, W), draw(PICTURES, CODES)),
    modfc("CIPS-styled-noise", lambda: cips.StyledConv(I, O, 1, W), draw(PICTURES, CODES, NOISE)),
    modfc("CIPS-styled-sin", lambda: cips.StyledConv(I, O, 1, W, "sin"), draw(PICTURES, CODES)),
    modfc("CIPS-styled-sinrelu", lambda: cips.StyledConv(I, O + 1, 1, W, "sinrelu"), draw(PICTURES, CODES)),
    modfc("CIPS-LFF", lambda: cips.LFF(O), draw((B, 2, SIDE, SIDE))),
    modfc("CIPS-rgb", lambda: cips.ToRGB(I, O, W), draw(PICTURES, CODES)),
    modfc("StyleGAN2-rgb-first", lambda: cips.first_to_rgb(I, O, W), draw(PICTURES, CODES)),
    modfc("CIPS-rgb-skip", lambda: cips.ToRGB(I, O, W, True), lambda: draw(PICTURES, CODES, (B, O, 1, 1))()[:2]),
]
STYLEGAN_CASES = [
    modfc("EG3D-synthesis", lambda: stylegan.SynthesisLayer(I, O, W, SIDE, 1), draw(PICTURES, CODES)),
    modfc(
        "EG3D-synthesis-const",
        lambda: stylegan.SynthesisLayer(I, O, W, SIDE, 1, activation="relu", conv_clamp=0.5),
        draw(PICTURES, CODES),
        options={"noise_mode": "const", "fused_modconv": False, "gain": 0.5**0.5},
    ),
    modfc(
        "EG3D-synthesis-quiet",
        lambda: stylegan.SynthesisLayer(I, O, W, SIDE, 1, use_noise=False),
        draw(PICTURES, CODES),
    ),
    modfc("EG3D-rgb", lambda: stylegan.ToRGBLayer(I, O, W, conv_clamp=0.4), draw(PICTURES, CODES)),
    modfc("StyleNeRF-style2", lambda: stylenerf.Style2Layer(I, O, W), draw(SAMPLES, CODES)),
    modfc(
        "StyleNeRF-style2-magnitude",
        lambda: stylenerf.Style2Layer(I, O, W, "relu", magnitude_ema_beta=0.9),
        draw(SAMPLES, CODES),
        options={"gain": 2.0},
        float64=False,
    ),
    modfc("StyleNeRF-rgb", lambda: stylenerf.ToRGBLayer(I, O, W), draw(SAMPLES, CODES)),
    modfc(
        "StyleNeRF-synthesis",
        lambda: stylenerf.SynthesisLayer(I, O, W, SIDE, magnitude_ema_beta=0.9),
        draw(SAMPLES, CODES),
        options={"input_noise": None, "skip_up": False},
        float64=False,
    ),
    modfc(
        "StyleNeRF-synthesis-const",
        lambda: stylenerf.SynthesisLayer(I, O, W, SIDE),
        draw(PICTURES, CODES),
        options={"noise_mode": "const"},
    ),
]
OTHER_CASES = [
    modfc(
        "VolumeGAN-nerf", lambda: volumegan.ModulateConvLayer(I, O, SIDE, W), draw((B, I, N, 1), CODES), float64=False
    ),
    modfc(
        "VolumeGAN-noise",
        lambda: volumegan.ModulateConvLayer(I, O, SIDE, W, noise_type="spatial", lr_mul=0.1, conv_clamp=0.7),
        draw(PICTURES, CODES),
        options={"noise_mode": "random", "runtime_gain": 0.5},
        float64=False,
    ),
    modfc(
        "VolumeGAN-output",
        lambda: volumegan.ModulateConvLayer(I, O, SIDE, W, demodulate=False, activation_type="linear"),
        draw(PICTURES, CODES),
        float64=False,
    ),
    modfc("EpiGRAF-synthesis", lambda: epigraf.SynthesisLayer(I, O, W, conv_clamp=1.0), draw((B, I, N), CODES)),
    modfc("EpiGRAF-output", lambda: epigraf.SynthesisOutputLayer(I, O, W), draw((B, I, N), CODES)),
]
CASES = FILM_CASES + CIPS3D_CASES + CIPS_CASES + STYLEGAN_CASES + OTHER_CASES
