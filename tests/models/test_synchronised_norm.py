"""The synchronised batch norm is torch's where one process has the whole batch; several are in test_ranks.py."""

import pytest
import torch
from torch import nn

from sil_cli.errors import UsageError
from sil_cli.models import synchronised_norm
from sil_cli.models.synchronised_norm import SynchronisedBatchNorm, synchronise_norms


@pytest.fixture(autouse=True)
def _one_process(monkeypatch) -> None:
    monkeypatch.setattr(synchronised_norm, "gather", lambda values: [values])


def both(norm: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    theirs = nn.Sequential(norm)
    ours = nn.Sequential(type(norm)(norm.num_features, momentum=norm.momentum, affine=norm.affine)).to(
        next(iter(norm.buffers())).dtype
    )
    ours.load_state_dict(theirs.state_dict())
    synchronise_norms(ours)
    assert isinstance(ours[0], SynchronisedBatchNorm)
    return ours, theirs


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(5), (4, 5, 3, 2)),
        (nn.BatchNorm1d(5), (6, 5)),
        (nn.BatchNorm2d(5, momentum=None), (4, 5, 3, 2)),
        (nn.BatchNorm2d(5, affine=False), (4, 5, 3, 2)),
    ],
)
def test_values_gradients_and_statistics_are_those_of_batch_norm(norm, shape) -> None:
    norm = norm.double()
    torch.manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    ours, theirs = both(norm)
    for _ in range(3):
        values = torch.randn(shape, dtype=torch.float64) * 3 + 1
        weights = torch.randn(shape, dtype=torch.float64)
        found = []
        for net in (ours, theirs):
            net.zero_grad()
            given = values.clone().requires_grad_()
            (net(given) * weights).sum().backward()
            found.append([given.grad, *(parameter.grad for parameter in net.parameters())])
        for mine, expected in zip(*found, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.eval()(values), theirs.eval()(values))


def test_statistics_can_be_kept_still() -> None:
    ours, _ = both(nn.BatchNorm2d(3))
    ours[0].track_running_stats = False
    ours(torch.randn(4, 3, 2, 2))
    assert ours[0].running_mean.abs().max() == 0


def test_half_precision_stays_half() -> None:
    ours, theirs = both(nn.BatchNorm2d(3))
    values = (torch.randn(8, 3, 4, 4) + 2).bfloat16()
    given = values.clone().requires_grad_()
    out = ours(given)
    out.sum().backward()
    assert out.dtype == given.grad.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), theirs(values.float()), rtol=0, atol=0.02)


def test_what_does_more_than_normalise_is_refused() -> None:
    class NormAndMore(nn.BatchNorm2d):
        pass

    with pytest.raises(UsageError, match=r"NormAndMore can't be synchronised"):
        synchronise_norms(nn.Sequential(nn.Sequential(NormAndMore(3))))
