"""Main and auxiliary discriminators of CIPS-3D: StyleGAN2's residual discriminator, minibatch statistics as an option.

The main discriminator sees the images of the INR, the auxiliary one (fewer channels) sees the images of the NeRF's own
colour head and so keeps the NeRF from collapsing into a mirror-symmetric shape (paper section 3.4). Architecture and
constants follow the released configuration (exp/cips3d/models/discriminator.py of the public code), written afresh in
plain torch so that it can be differentiated twice, as R1 needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cips3d.models.base_discriminator import BaseDiscriminator

SMALLEST_SIZE = 4  # side of the last feature map, where the image becomes one vector
BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)  # binomial low-pass of StyleGAN2, applied before every stride-2 convolution
LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)  # keeps the second moment after a leaky ReLU near one
STDDEV_EPS = 1e-8  # added to variances under the square root (StyleGAN2)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Widths of both discriminators; entry k belongs to feature maps of side 4 * 2^k (the last to the largest image).

    Defaults are the released model's (4 .. 1024 pixels). `aux_channels` may be empty: then there is no auxiliary part.
    `stddev_group` images are compared with one another by `MinibatchStddev`; 0, as released, leaves that out.
    """

    main_channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64, 32)
    aux_channels: tuple[int, ...] = (256, 256, 256, 256, 256, 256, 128, 64, 32)
    stddev_group: int = 0
    model: Literal["cips3d"] = "cips3d"

    def __post_init__(self) -> None:
        if self.stddev_group < 0 or self.stddev_group == 1:
            raise ValueError(
                f"discriminator.stddev_group must be 0 (off) or at least 2 images, got {self.stddev_group}; "
                "one image alone has no spread"
            )

    @property
    def max_size(self) -> int:
        """Side of the largest image either part accepts, in pixels."""
        return SMALLEST_SIZE * 2 ** (len(self.main_channels) - 1)

    @property
    def has_aux(self) -> bool:
        return bool(self.aux_channels)


class EqualConv2d(nn.Module):
    """Convolution without bias whose weight is scaled by 1/sqrt(fan in) at run time (Karras et al. 2018, sec. 4.1)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.scale = 1.0 / math.sqrt(in_channels * kernel * kernel)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:  # [B,I,H,W] -> [B,O,H',W']
        return F.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.padding)


class EqualLinear(nn.Module):
    """Linear layer with bias, weight scaled by 1/sqrt(fan in) at run time.

    With `lr_multiplier` both learn that much slower or faster: stored divided by it, multiplied by it at run time.
    """

    def __init__(self, in_features: int, out_features: int, lr_multiplier: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], bias / lr_multiplier))
        self.scale, self.lr_multiplier = lr_multiplier / math.sqrt(in_features), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:  # [*,I] -> [*,O]
        bias = self.bias if self.lr_multiplier == 1.0 else self.bias * self.lr_multiplier
        return F.linear(x, self.weight * self.scale, bias)


class _Blur(torch.autograd.Function):
    """Depthwise convolution with one symmetric kernel [4,4] for all channels, whose gradient is such a blur again.

    R1 differentiates twice. PyTorch's second derivative of a depthwise convolution also computes what nobody asks for,
    the kernel's part, channel by channel in a loop; there, and in the gradient of a stride in bfloat16, most of the
    blur's time was spent.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, padding: int, stride: int) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.padding, ctx.stride = padding, stride
        ctx.dense = [side + 2 * padding - len(kernel) + 1 for side in x.shape[2:]]  # output without the stride
        weight = kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, weight, stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,), (kernel,) = gradients, ctx.saved_tensors
        if ctx.stride > 1:
            last = gradient.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if last else torch.contiguous_format
            dense = gradient.new_zeros(*gradient.shape[:2], *ctx.dense).contiguous(memory_format=layout)
            dense[..., :: ctx.stride, :: ctx.stride] = gradient
            gradient = dense
        return _Blur.apply(gradient, kernel, len(kernel) - 1 - ctx.padding, 1), None, None, None


class Blur(nn.Module):
    """Low-pass with `BLUR_TAPS` in both directions; keeps the mean of its input away from the borders."""

    kernel: Tensor

    def __init__(self, padding: int, stride: int = 1) -> None:
        super().__init__()
        taps = torch.tensor(BLUR_TAPS, device="cpu")  # a number, also where the weights are on the device "meta"
        kernel = torch.outer(taps, taps) / taps.sum() ** 2
        self.register_buffer("kernel", kernel, persistent=False)
        self.padding, self.stride = padding, stride

    def forward(self, x: Tensor) -> Tensor:  # [B,C,H,W] -> [B,C,H',W']
        return _Blur.apply(x, self.kernel, self.padding, self.stride)


def fused_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    """sqrt(2) * leaky_relu(x + bias, 0.2) with the bias over axis 1 (StyleGAN2)."""
    shape = [1, -1] + [1] * (x.ndim - 2)
    return F.leaky_relu(x + bias.to(x.dtype).view(shape), LRELU_SLOPE) * LRELU_GAIN


class ConvLayer(nn.Module):
    """Equalised convolution and fused leaky ReLU; `downsample` blurs first and halves the side."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, downsample: bool = False) -> None:
        super().__init__()
        if downsample:
            # Padding 2 makes blur (4 taps) and stride-2 convolution (3 taps) together map side H to exactly H/2.
            self.blur: nn.Module = Blur(padding=2)
            self.conv = EqualConv2d(in_channels, out_channels, kernel, stride=2)
        else:
            self.blur = nn.Identity()
            self.conv = EqualConv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return fused_leaky_relu(self.conv(self.blur(x)), self.bias)


class MinibatchStddev(nn.Module):
    """Adds one channel that says how much the images of a group differ (Karras et al. 2018, sec. 3; StyleGAN2's form).

    Images i, i + B/G, i + 2B/G, ... are a group; G is `group`, or the batch where that is smaller. The channel is the
    standard deviation sqrt(E[(x - E[x])^2] + STDDEV_EPS) over the group, averaged over channels and pixels. Of several
    processes each compares its own images. Raises ValueError where G does not divide the batch.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:  # [B,C,H,W] -> [B,C+1,H,W]
        batch = len(x)
        group = min(batch, self.group)
        if batch % group:
            raise ValueError(
                f"discriminator: stddev_group {self.group} must divide the batch of {batch} images that one part sees; "
                "choose another optimizer.batch_size or discriminator.stddev_group"
            )
        # Differences of bfloat16 activations are taken in float32, where their squares are not rounded.
        grouped = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (group, -1))
        spread = (grouped.var(dim=0, unbiased=False) + STDDEV_EPS).sqrt().mean(dim=(1, 2, 3))
        channel = spread.to(x.dtype).repeat(group).view(batch, 1, 1, 1).expand(-1, -1, *x.shape[2:])
        return torch.cat([x, channel], dim=1)


class ResidualBlock(nn.Module):
    """Two 3x3 layers beside a blurred 1x1 skip, halving the side: [B,I,H,W] -> [B,O,H/2,W/2].

    `downsample_first` says which of the two layers halves: the first in the auxiliary, the second in the main part.
    """

    def __init__(self, in_channels: int, out_channels: int, downsample_first: bool) -> None:
        super().__init__()
        self.conv1 = ConvLayer(in_channels, in_channels, 3, downsample=downsample_first)
        self.conv2 = ConvLayer(in_channels, out_channels, 3, downsample=not downsample_first)
        # Striding the blur itself computes only the pixels that a stride-2 1x1 convolution would keep.
        self.skip_blur = Blur(padding=1, stride=2)
        self.skip = EqualConv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(self.skip_blur(x))) / math.sqrt(2.0)


class ImageDiscriminator(nn.Module):
    """One discriminator for every power-of-two size from 4 to its largest; each size has its own input layer.

    `image_channels` go in (3 colours), `outputs` numbers come out (1 logit).
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        downsample_first: bool,
        stddev_group: int = 0,
        image_channels: int = 3,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.image_channels = image_channels
        sizes = [SMALLEST_SIZE * 2**k for k in range(len(channels))]
        width = dict(zip(sizes, channels, strict=True))
        self.from_rgb = nn.ModuleDict({str(s): ConvLayer(image_channels, width[s], 1) for s in sizes})
        self.blocks = nn.ModuleDict(
            {str(s): ResidualBlock(width[s], width[s // 2], downsample_first) for s in sizes[1:]}
        )
        self.stddev = MinibatchStddev(stddev_group) if stddev_group else nn.Identity()
        self.final_conv = ConvLayer(channels[0] + bool(stddev_group), channels[0], 3)
        self.hidden = EqualLinear(channels[0] * SMALLEST_SIZE**2, channels[0])
        self.output = EqualLinear(channels[0], outputs)

    def forward(self, images: Tensor, alpha: float = 1.0) -> Tensor:
        """Logits [B,outputs] of images [B,C,S,S] in [-1,1]; alpha < 1 fades size S in over size S/2."""
        size, channels = images.shape[-1], self.image_channels
        if images.ndim != 4 or images.shape[1:] != (channels, size, size) or str(size) not in self.from_rgb:
            raise ValueError(
                f"discriminator: images must be [B,{channels},S,S] with S one of {', '.join(self.from_rgb)}, "
                f"got {list(images.shape)}; choose such a resolution or configure more channels"
            )
        x = self.from_rgb[str(size)](images)
        while size > SMALLEST_SIZE:
            x = self.blocks[str(size)](x)
            size //= 2
            if alpha < 1.0 and size == images.shape[-1] // 2:
                half = F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=False)
                x = alpha * x + (1.0 - alpha) * self.from_rgb[str(size)](half)
        x = self.final_conv(self.stddev(x)).flatten(1)
        # The same formula as in the convolutions, with the bias already added by the linear layer.
        x = F.leaky_relu(self.hidden(x), LRELU_SLOPE) * LRELU_GAIN
        return self.output(x)


class Discriminator(BaseDiscriminator):
    """The main discriminator and, where configured, the auxiliary one (released: `Discriminator_MultiScale_Aux`)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        group = config.stddev_group
        self.main = ImageDiscriminator(config.main_channels, False, group)
        self.aux = ImageDiscriminator(config.aux_channels, True, group) if config.aux_channels else None

    def judge(self, images: Tensor, alpha: float, use_aux: bool, labels: Tensor | None) -> Tensor:
        """Of images [B,3,S,S]; with `use_aux` the second half of the batch goes to the auxiliary part.

        Raises ValueError for a size without layers, and for use_aux with an odd batch or without an auxiliary part.
        """
        if not use_aux:
            return self.main(images, alpha)
        if self.aux is None or len(images) % 2:
            raise ValueError(
                f"discriminator: use_aux needs aux_channels in the configuration (here {self.config.aux_channels}) "
                f"and an even batch (here {len(images)}): main images first, then as many auxiliary ones"
            )
        main_images, aux_images = images.chunk(2)
        return torch.cat([self.main(main_images, alpha), self.aux(aux_images, alpha)])
