"""One interleaved iteration written plainly, as research code is: what `bench_step.py` compares with.

Float32, channels first, a forward pass and a loss for each source in turn, torch's default Adam, and prototypes updated
image by image in a loop. It shares no code with the package, so that it also checks the package's result.
"""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE, MOMENTUM, RHO, EPSILON = 0.05, 0.2, 3.0, 1e-6


class PlainNetwork(nn.Module):
    """A ResNet as the paper's recipe has it: last stride 1, no ReLU in the stem, mean pooling, a neck without bias."""

    def __init__(self, name: str = "resnet50", last_stride: int = 1) -> None:
        super().__init__()
        self.backbone = getattr(torchvision.models, name)(weights=None)
        self.neck = nn.BatchNorm1d(self.backbone.fc.in_features)
        self.backbone.fc = nn.Identity()
        for module in self.backbone.layer4[0].modules():
            if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                module.stride = (last_stride, last_stride)
        self.neck.bias.requires_grad_(False)

    def forward(self, images: Tensor, restyle=None) -> Tensor:
        net = self.backbone
        features = net.layer1(net.maxpool(net.bn1(net.conv1(images))))
        if restyle is not None:
            features = restyle(features)
        features = net.layer4(net.layer3(net.layer2(features)))
        return F.normalize(self.neck(F.adaptive_avg_pool2d(features, 1).flatten(1)), dim=1)


def uniform_style(features: Tensor, rng: np.random.Generator) -> Tensor:
    """`ubs`: new means, then new deviations, uniform around those of the batch."""
    means = features.mean(dim=(2, 3))
    deviations = (features.var(dim=(2, 3), unbiased=False) + EPSILON).sqrt()
    new = []
    for values in (means, deviations):
        offset = torch.from_numpy(rng.uniform(-RHO, RHO, size=tuple(values.shape))).to(values)
        new.append(values.mean(dim=0) + offset * values.std(dim=0, unbiased=False))
    content = (features - means[..., None, None]) / deviations[..., None, None]
    return content * new[1][..., None, None] + new[0][..., None, None]


def plain_step(
    network: PlainNetwork,
    prototypes: list[Tensor],
    images: list[Tensor],
    labels: list[Tensor],
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> Tensor:
    """One iteration; `network`, `prototypes` (K, D) and `optimizer` are updated, the loss before it is returned.

    Args:
        images: (B, 3, H, W) for each source, normalised float32, channels first: making them is not timed.
        labels: (B,) for each source.
    """
    loss = 0.0
    for rows, batch, identities in zip(prototypes, images, labels, strict=True):
        loss = loss + F.cross_entropy(network(batch).mm(rows.t()) / TEMPERATURE, identities)
    loss = loss / len(images)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

    owners = torch.cat([torch.full_like(each, source) for source, each in enumerate(labels)])
    order = torch.from_numpy(rng.permutation(len(owners))).to(owners.device)
    with torch.no_grad():
        features = network(torch.cat(images)[order], lambda maps: uniform_style(maps, rng))
        for feature, source, identity in zip(features, owners[order], torch.cat(labels)[order], strict=True):
            rows = prototypes[int(source)]
            rows[identity] = MOMENTUM * rows[identity] + (1 - MOMENTUM) * feature
            rows[identity] /= rows[identity].norm()
    return loss.detach()
