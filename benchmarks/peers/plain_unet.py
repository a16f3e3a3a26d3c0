"""The plain U-Net in PyTorch, with the layers and the parameters of `flaxseg.models.plain_unet`."""

import torch
from torch import nn


class Block(nn.Sequential):
    """Two 3x3 convolutions, each followed by batch normalization and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class PlainUnet(nn.Module):
    """A U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) with four levels and padded convolutions."""

    def __init__(self, num_classes: int, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList(map(Block, [3, *widths], widths))
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(2 * each, each, 2, stride=2) for each in widths[:-1])
        self.decoder = nn.ModuleList(Block(2 * each, each) for each in widths[:-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits [B, K, H, W] of normalized images [B, 3, H, W]."""
        x, skips = self.encoder[0](x), []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))
        for level in reversed(range(len(skips))):
            x = self.decoder[level](torch.cat([skips[level], self.upsample[level](x)], dim=1))
        return self.head(x)
