"""The networks: feature extractors F, classifier C, domain discriminator D.

``paper`` is the network of Lin et al. 2019 (Fig. 2); ``default`` is a small residual network that
is several times faster. Both map (b, 1, d, d, d) to (b, n_features) for boxes d of 24 … 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

PAPER_BOX = 40
"""The box the paper's layers were designed for: smaller ones are zero-padded to it."""


class PaperExtractor(nn.Module):
    """Feature extractor of Lin et al. 2019, Fig. 2: six convolutions, two 1³ ones, FC-500.

    No normalisation layers; LeCun-normal weights; dropout ½ on the features. The released code
    applies its first 1³ convolution twice and never the second (128 → 256), which Fig. 2 intends:
    here the second is used.

    Boxes below 40 would shrink to nothing (the paper does not say how its 36³ and 28³ sets were
    fed). They are zero-padded to 40 about their centre; zero is the mean of a standardised
    subtomogram. For boxes above 40 the last pooling is a maximum over all remaining voxels.
    """

    n_features = 500

    def __init__(self, box: int) -> None:
        super().__init__()
        missing = max(0, PAPER_BOX - box)
        before = PAPER_BOX // 2 - box // 2 if missing else 0
        self.padding = (before, missing - before) * 3
        self.convolutions = nn.Sequential(  # sizes for d = 40
            nn.Conv3d(1, 8, 5), nn.ReLU(),  # 36
            nn.Conv3d(8, 16, 5), nn.ReLU(), nn.MaxPool3d(2),  # 32 → 16
            nn.Conv3d(16, 32, 4), nn.ReLU(),  # 13
            nn.Conv3d(32, 64, 4), nn.ReLU(), nn.MaxPool3d(2, ceil_mode=True),  # 10 → 5
            nn.Conv3d(64, 128, 3), nn.ReLU(),  # 3
            nn.Conv3d(128, 128, 3), nn.ReLU(), nn.MaxPool3d(2, ceil_mode=True),  # 1
            nn.Conv3d(128, 128, 1), nn.ReLU(),
            nn.Conv3d(128, 256, 1), nn.ReLU(), nn.AdaptiveMaxPool3d(1),
        )  # fmt: skip
        self.full = nn.Sequential(nn.Flatten(), nn.Linear(256, self.n_features), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.apply(lecun_normal)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, d, d, d) → (b, 500)."""
        x = nn.functional.pad(x, self.padding)
        features: Tensor = self.dropout(self.full(self.convolutions(x)))
        return features


def lecun_normal(module: nn.Module) -> None:
    """Weights N(0, 1/fan_in), biases 0 (LeCun et al. 1998), as in the released code."""
    if isinstance(module, nn.Conv3d | nn.Linear):
        fan_in = module.weight[0].numel()
        nn.init.normal_(module.weight, std=1 / math.sqrt(fan_in))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ResidualBlock(nn.Module):
    """Two 3³ convolutions with batch normalisation and a shortcut; the first may have stride 2."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(width_in, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(width), nn.ReLU(inplace=True),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm3d(width),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(
                nn.AvgPool3d(stride, ceil_mode=True),
                nn.Conv3d(width_in, width, 1, bias=False),
                nn.BatchNorm3d(width),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(b, w_in, d, d, d) → (b, w, ⌈d/stride⌉, …)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ResidualExtractor(nn.Module):
    """The default: a strided 5³ stem, three stages of residual blocks, mean over space.

    With batch normalisation after every convolution. The adaptation method decides which
    statistics are used in which domain (see ``docs/methods.md``).
    """

    n_features = 128

    def __init__(self, box: int) -> None:
        super().__init__()
        width = 16
        self.stem = nn.Sequential(
            nn.Conv3d(1, width, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm3d(width), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.stages = nn.Sequential(  # sizes for d = 40
            ResidualBlock(width, 2 * width, 2),  # 10
            ResidualBlock(2 * width, 4 * width, 2),  # 5
            ResidualBlock(4 * width, self.n_features, 2),  # 3
        )
        self.dropout = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, d, d, d) → (b, 128)."""
        features: Tensor = self.dropout(self.stages(self.stem(x)).mean(dim=(2, 3, 4)))
        return features


Extractor = PaperExtractor | ResidualExtractor
"""Both end in ``dropout``, so that features can be stored without it and it can be drawn anew."""

EXTRACTORS: dict[str, Callable[[int], Extractor]] = {
    "default": ResidualExtractor,
    "paper": PaperExtractor,
}


def classifier(n_features: int, n_classes: int) -> nn.Linear:
    """C: one fully connected layer that gives logits; the softmax is part of the loss."""
    layer = nn.Linear(n_features, n_classes)
    lecun_normal(layer)
    return layer


def discriminator(n_features: int) -> nn.Sequential:
    """D: FC-500, FC-500 with leaky ReLU 0.2, then two logits: index 0 = source, 1 = target."""
    layers = nn.Sequential(
        nn.Linear(n_features, 500), nn.LeakyReLU(0.2),
        nn.Linear(500, 500), nn.LeakyReLU(0.2),
        nn.Linear(500, 2),
    )  # fmt: skip
    layers.apply(lecun_normal)
    return layers
