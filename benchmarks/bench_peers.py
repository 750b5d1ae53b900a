"""Layers and renderers of other public 3D GANs, as their authors wrote them and after `cips3d_ext.accelerate`: forward,
backward, and the gradient of squared gradients, as path lengths and eikonal terms take it.

The layers are the re-statements of tests/drop_in/hosts; sizes are those of the hosts' training configurations, with
fewer points where a CPU would be busy for minutes.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch._inductor.config
from harness import ROOT, Contender, Row, compiled, parser, record, start
from torch import Tensor, nn

import cips3d_ext

sys.path.insert(0, str(ROOT))  # for the tests' hosts
from peer_renderers import renderers

from tests.drop_in.hosts import cips, cips3d, epigraf, pigan, stylegan, stylenerf, stylesdf, volumegan

CODE = 512  # width of style codes
MOST_DRAWS = 20  # of inputs, until no output rounds across a kink


@dataclass(frozen=True)
class Layer:
    """A host's layer; shapes: of its inputs; float64: whether it runs in it; second: second derivatives too."""

    host: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    float64: bool = True
    second: bool = True


def layers(quick: bool) -> list[Layer]:
    side, points, width = (4, 16, 8) if quick else (32, 6144, 256)
    wide, code = (8, 8) if quick else (512, CODE)
    B = 2
    return [
        *(Layer(*entry, float64=False, second=False) for entry in renderers(quick)),
        Layer("pi-GAN FiLMLayer 3", lambda: pigan.FiLMLayer(3, width), ((B, points, 3), (B, width), (B, width))),
        Layer("pi-GAN FiLMLayer", lambda: pigan.FiLMLayer(width, width), ((B, points, width), (B, width), (B, width))),
        Layer("CIPS-3D FiLMLayer", lambda: cips3d.FiLMLayer(width, width, code), ((B, points, width), (B, code))),
        Layer("StyleSDF FiLMSiren", lambda: stylesdf.FiLMSiren(width, width, width),
              ((B, 1, 1, points, width), (B, width))),
        Layer("CIPS-3D SinStyleMod", lambda: cips3d.SinStyleMod(wide, wide, 1, code, True),
              ((B, side**2, wide), (B, code))),
        Layer("CIPS StyledConv", lambda: cips.StyledConv(wide, wide, 1, code),
              ((B, wide, side, side), (B, code), (B, 1, side, side))),
        Layer("CIPS LFF", lambda: cips.LFF(wide), ((B, 2, side, side),)),
        Layer("EG3D ToRGBLayer 96", lambda: stylegan.ToRGBLayer(wide, 96, code), ((B, wide, side, side), (B, code))),
        Layer("StyleGAN2 SynthesisLayer", lambda: stylegan.SynthesisLayer(wide, wide, code, side, 1),
              ((B, wide, side, side), (B, code))),
        Layer("StyleNeRF Style2Layer", lambda: stylenerf.Style2Layer(width // 2, width // 2, code),
              ((B * 16, width // 2, side // 2, side // 2), (B, code))),
        Layer("VolumeGAN ModulateConvLayer", lambda: volumegan.ModulateConvLayer(width, width, side, code),
              ((B, width, points, 1), (B, code)), float64=False),
        Layer("EpiGRAF SynthesisLayer", lambda: epigraf.SynthesisLayer(width // 2, width // 2, code),
              ((B, width // 2, points), (B, code))),
    ]  # fmt: skip


def outputs(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)[:1]


def contender(name: str, layer: nn.Module, arguments: Sequence[Tensor]) -> Contender:
    leaves = [argument.to(next(layer.parameters(), argument)).requires_grad_() for argument in arguments]
    torch.manual_seed(0)

    def run() -> list[Tensor]:
        torch.manual_seed(0)  # the same noise for all
        return outputs(layer(*leaves))

    parameters = [p for key, p in layer.named_parameters() if not key.startswith("norm")]  # those that are used
    return Contender(name, run, [*leaves, *parameters])


def second_order(first: Contender, arguments: int) -> Contender:
    """The gradient, by inputs and parameters, of the squared gradient by inputs."""
    leaves = first.inputs[:arguments]

    @torch.enable_grad()
    def run() -> list[Tensor]:
        total = sum(output.sum() for output in first.run())
        found = torch.autograd.grad(total, leaves, create_graph=True)
        squares = sum(g.square().sum() for g in found)
        seconds = torch.autograd.grad(squares, first.inputs, allow_unused=True)
        return [g for g in seconds if g is not None and g.any()]

    return Contender(first.name, run, first.inputs, directions=("step",))


def on_one_side(contenders: Sequence[Contender]) -> bool:
    """Whether all give outputs of the same signs. On the other side of a leaky ReLU's kink a gradient is another, and
    both are right: one number in millions that rounds across it would be taken for an error of the whole gradient."""
    with torch.no_grad():
        runs = [[output.sign() for output in one.run()] for one in contenders]
    return all(torch.equal(a.to(b), b) for run in runs for a, b in zip(run, runs[0], strict=True))


def run_case(layer: Layer, args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    host = layer.make().to(args.device)
    with torch.no_grad():
        for parameter in host.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # some are zero when they are made
    ours, twin = copy.deepcopy(host), copy.deepcopy(host)
    twin = twin.double() if layer.float64 else twin
    holder = nn.ModuleList([ours])
    cips3d_ext.accelerate(holder, strict=True)
    for seed in range(MOST_DRAWS):
        torch.manual_seed(seed)
        arguments = [torch.randn(shape, device=args.device).tanh() for shape in layer.shapes]
        made = [contender("eager", host, arguments), contender("ours", ours, arguments)]
        exact = contender("float64", twin, arguments)
        if on_one_side([exact, *made]):
            break
    case: Row = {"host": layer.host, "shape": "x".join(map(str, layer.shapes[0])), "dtype": "float32"}
    contenders = made if args.no_compile else [*made, compiled(made[0])]
    record(args, "peers", case, contenders, exact)
    if layer.second and not args.no_second:
        seconds = [second_order(one, len(arguments)) for one in (*made, exact)]
        record(args, "peers", case | {"part": "second order"}, seconds[:2], seconds[2])


def main() -> None:
    arguments = parser("peers")
    arguments.add_argument("--hosts", nargs="*", default=[], help="parts of the hosts' names; all without")
    arguments.add_argument("--no-second", action="store_true", help="leave second derivatives out")
    args = arguments.parse_args()
    start(args)
    if not args.no_compile:
        torch._inductor.config.fallback_random = True  # else it draws other noise than the hosts
    for layer in layers(args.quick):
        if not args.hosts or any(part.lower() in layer.host.lower() for part in args.hosts):
            run_case(layer, args)


if __name__ == "__main__":
    main()
