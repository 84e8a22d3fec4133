"""Our own small networks, for small images."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters (option A of He et al. 2015, section 4.2)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride = stride
        self.extra = (outside - inside) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1 or self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(x + y)


class SmallResNet(nn.Module):
    """Residual network for small images (He et al. 2015, section 4.2).

    A 3×3 stem, three stages of 16, 32 and 64 channels with (n − 2) / 6 blocks each, averaging, one linear
    layer.

    Args:
        depth: 6 k + 2.
        num_classes: Outputs.
        stem_stride: 1 for 32×32 images; 2 halves larger ones at once.
    """

    def __init__(self, depth: int, num_classes: int, stem_stride: int = 1) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, 1, blocks)
        self.layer2 = _stage(16, 32, 2, blocks)
        self.layer3 = _stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(inside: int, outside: int, stride: int, blocks: int) -> nn.Sequential:
    rest = [BasicBlock(outside, outside, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inside, outside, stride), *rest)


@dataclasses.dataclass(frozen=True)
class OwnArchitecture:
    """A network of this package: its name, its depth and the images that it is meant for."""

    name: str
    depth: int
    size: int
    stem_stride: int = 1


OWN = (
    OwnArchitecture("resnet14_small", 14, 64, stem_stride=2),
    OwnArchitecture("resnet20_cifar", 20, 32),
    OwnArchitecture("resnet32_cifar", 32, 32),
    OwnArchitecture("resnet56_cifar", 56, 32),
)
