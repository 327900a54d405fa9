"""An embedder with hardly any weights, for tests that need no real network."""

from __future__ import annotations

from itertools import pairwise
from unittest.mock import patch

import torch

from sil_cli.models.embedder import Architecture, Embedder

DIMENSION = 12


class TinyBackbone(torch.nn.Module):
    """Four stages of one convolution each."""

    stages = 4

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Conv2d(before, after, 3, stride=2 if after < 10 else 1, padding=1, bias=False),
                torch.nn.BatchNorm2d(after),
                torch.nn.Softplus(),
            )
            for before, after in pairwise((3, 6, 8, 10, DIMENSION))
        )
        self.channels = DIMENSION

    def forward(self, images, *, style=None, after_stages=(1,)) -> torch.Tensor:
        for number, stage in enumerate(self.convolutions, start=1):
            images = stage(images)
            if style is not None and number in after_stages:
                images = style(images)
        return images


def tiny_embedder(seed: int = 0) -> Embedder:
    """For images of 32×16; embeddings of 12 numbers."""
    # No ResNet is made only to be thrown away: its eleven million random numbers take 0.2 s.
    with patch("sil_cli.models.embedder.make_backbone", lambda *_, **__: TinyBackbone()):
        embedder = Embedder(Architecture(backbone="resnet18", height=32, width=16))
    torch.manual_seed(seed)
    embedder.backbone, embedder.neck = TinyBackbone(), torch.nn.BatchNorm1d(DIMENSION)
    embedder.neck.bias.requires_grad_(False)
    return embedder
