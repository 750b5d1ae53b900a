"""R1 of a discriminator and its gradient by all weights, the dearest part of a D step: ours, with PyTorch's derivatives
of the blur (a depthwise convolution), and with channels last; 32 x 32 pixels of the demo and of the released model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from types import MethodType

import torch
import torch.nn.functional as F
from harness import Contender, Row, in_float64, parser, record, start
from torch import Tensor

from cips3d.config.training import load_training
from cips3d.models.discriminator import Blur, Discriminator, DiscriminatorConfig
from cips3d.training.losses import r1_gradient_norm

CASES = (("demo", 32, 16), ("released_ffhq_32", 32, 4))  # preset, side in pixels, images
QUICK = (("tiny", 8, 2),)


def depthwise(blur: Blur, x: Tensor) -> Tensor:
    weight = blur.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, weight, stride=blur.stride, padding=blur.padding, groups=x.shape[1])


def with_depthwise_blur(model: Discriminator) -> Discriminator:
    for module in model.modules():
        if isinstance(module, Blur):
            module.forward = MethodType(depthwise, module)  # type: ignore[method-assign]
    return model


def penalty(model: Discriminator, images: Tensor, dtype: torch.dtype) -> Callable[..., list[Tensor]]:
    """Squared R1 norms [B] and logits [B,1] as a function of the weights that they use."""
    names = used_weights(model, images)

    @torch.enable_grad()
    def run(*weights: Tensor) -> list[Tensor]:
        x = images.to(weights[0].dtype).requires_grad_()
        rounded = dtype == torch.bfloat16 and weights[0].dtype == torch.float32
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=rounded):
            logits = torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (x,))
        return [r1_gradient_norm(logits.to(x.dtype), x), logits.to(x.dtype)]

    return run


def used_weights(model: Discriminator, images: Tensor) -> Sequence[str]:
    entry = f"main.from_rgb.{images.shape[-1]}."
    return [name for name, _ in model.named_parameters() if "from_rgb" not in name or name.startswith(entry)]


def run_case(preset: str, size: int, batch: int, dtype: torch.dtype, args: argparse.Namespace) -> None:
    channels = load_training(preset).discriminator.main_channels
    config = DiscriminatorConfig(channels[: size.bit_length() - 2], ())
    images = torch.rand(batch, 3, size, size, device=args.device) * 2 - 1
    state = Discriminator(config).state_dict()

    def built(channels_last: bool = False) -> Discriminator:
        model = Discriminator(config).to(args.device)
        model.lay_out(channels_last)
        model.load_state_dict(state)
        return model

    def contender(name: str, model: Discriminator) -> Contender:
        run = penalty(model, images, dtype)
        weights = [model.get_parameter(name) for name in used_weights(model, images)]
        return Contender(name, lambda: run(*weights), weights, ("forward+backward",))

    made = [contender("ours", built()), contender("depthwise", with_depthwise_blur(built()))]
    made += [contender("ours, channels last", built(channels_last=True))]
    exact = in_float64(penalty(built(), images, dtype), made[0].inputs, ("forward+backward",))
    case: Row = {"preset": preset, "resolution": size, "batch": batch, "dtype": str(dtype).removeprefix("torch.")}
    record(args, "discriminator", case, made, exact)


def main() -> None:
    args = parser("discriminator").parse_args()
    start(args)
    for preset, size, batch in QUICK if args.quick else CASES:
        for dtype in (torch.float32, torch.bfloat16):
            run_case(preset, size, batch, dtype, args)


if __name__ == "__main__":
    main()
