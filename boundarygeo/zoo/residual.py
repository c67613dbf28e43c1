"""Residual networks for small images: the CIFAR ResNet, the pre-activation ResNet-18 and wide ResNets."""

import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters (option A of He et al.): new channels are zero there."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Features `[batch, channel, row, col]` to features."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        before, after = self.new_channels // 2, self.new_channels - self.new_channels // 2
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, after))
        return F.relu(out + shortcut)


class CifarResNet(nn.Module):
    """Residual network for small images: three stages of 16, 32 and 64 channels; its depth is 6 × blocks + 2."""

    def __init__(self, blocks: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(BasicBlock, 16, 16, blocks, stride=1)
        self.layer2 = _stage(BasicBlock, 16, 32, blocks, stride=2)
        self.layer3 = _stage(BasicBlock, 32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, channel, row, col]` to logits `[batch, class]`."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean(dim=(2, 3)))


class PreActBlock(nn.Module):
    """Normalisation and ReLU before each of two 3×3 convolutions; nothing after the sum.

    If the shape changes, the shortcut is a 1×1 convolution of the first convolution's input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Features `[batch, channel, row, col]` to features."""
        out = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut


class PreActResNet(nn.Module):
    """Stages of pre-activation blocks on small images; the second and later ones halve the resolution."""

    def __init__(self, blocks: int, stem: int, widths: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.stages: list[str] = []
        before = stem
        for number, width in enumerate(widths):
            self.stages.append(f"layer{number + 1}")
            stage = _stage(PreActBlock, before, width, blocks, stride=2 if number else 1)
            self.add_module(self.stages[-1], stage)
            before = width
        self.bn = nn.BatchNorm2d(before)
        self.linear = nn.Linear(before, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, channel, row, col]` to logits `[batch, class]`."""
        out = self.conv1(x)
        for name in self.stages:
            out = self.get_submodule(name)(out)
        return self.linear(F.relu(self.bn(out)).mean(dim=(2, 3)))


def _stage(
    block: type[BasicBlock] | type[PreActBlock], in_channels: int, out_channels: int, blocks: int, stride: int
) -> nn.Sequential:
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


def resnet20(num_classes: int = 10, input_shape: Shape = (3, 32, 32)) -> nn.Module:
    """ResNet-20 for CIFAR-10 with shortcuts of option A, 0.27 million parameters.

    Its parameter names are those of the checkpoints of akamaster/pytorch_resnet_cifar10.

    Reference: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
    """
    return CifarResNet(3, num_classes, input_shape[0])


def preact_resnet18(num_classes: int = 10, input_shape: Shape = (3, 32, 32)) -> nn.Module:
    """Pre-activation ResNet-18 for small images, 11.2 million parameters: the usual network of adversarial training.

    Reference: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016.
    """
    return PreActResNet(2, 64, (64, 128, 256, 512), num_classes, input_shape[0])


def wide_resnet(depth: int, width: int, num_classes: int = 10, input_shape: Shape = (3, 32, 32)) -> nn.Module:
    """Wide ResNet without dropout: WRN-16-4 has 2.7, WRN-28-10 36.5 million parameters.

    The depth is 6 n + 4, counting the convolutions of the longest path and the linear layer; the stages have 16 k, 32 k
    and 64 k channels, with k the width.

    Reference: Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016, table 1.
    """
    if depth < 10 or depth % 6 != 4 or width < 1:
        raise ValueError(f"depth must be 10, 16, 22, 28, … and width positive, got {depth} and {width}")
    return PreActResNet((depth - 4) // 6, 16, (16 * width, 32 * width, 64 * width), num_classes, input_shape[0])
