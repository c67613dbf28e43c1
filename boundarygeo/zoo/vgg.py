"""VGG for small images: 3×3 convolutions in five blocks, and one linear layer."""

import itertools

from torch import Tensor, nn

Shape = tuple[int, int, int]

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each block."""


class VGG(nn.Module):
    """Five blocks of convolutions with batch normalisation, each followed by max pooling.

    The published network has three large linear layers on 7×7 features of 224×224 images; for small images, one linear
    layer on the mean of the last features is usual.
    """

    def __init__(self, depths: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        for number, (depth, (before, width)) in enumerate(
            zip(depths, itertools.pairwise((in_channels, *WIDTHS)), strict=True)
        ):
            layers: list[nn.Module] = []
            for channels in (before, *(width for _ in range(depth - 1))):
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            # Rounded up, so that images of any size keep at least one pixel; no difference for 32×32.
            self.add_module(f"block{number + 1}", nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True)))
        self.linear = nn.Linear(WIDTHS[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, channel, row, col]` to logits `[batch, class]`."""
        for number in range(len(WIDTHS)):
            x = self.get_submodule(f"block{number + 1}")(x)
        return self.linear(x.mean(dim=(2, 3)))


def vgg11(num_classes: int = 10, input_shape: Shape = (3, 32, 32)) -> nn.Module:
    """VGG with 8 convolutions and batch normalisation, 9.2 million parameters.

    Reference: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
    table 1, column A.
    """
    return VGG((1, 1, 2, 2, 2), num_classes, input_shape[0])


def vgg16(num_classes: int = 10, input_shape: Shape = (3, 32, 32)) -> nn.Module:
    """VGG with 13 convolutions and batch normalisation, 14.7 million parameters: column D of `vgg11`'s reference."""
    return VGG((2, 2, 3, 3, 3), num_classes, input_shape[0])
