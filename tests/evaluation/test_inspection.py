"""What is looked at before a module is run."""

import pytest
import torch
from torch import nn

import boundarygeo as bg
from boundarygeo.evaluation import few_inputs


def test_two_or_three_inputs_are_looked_at() -> None:
    x = torch.rand(5, 1, 2, 3)
    device = torch.device("cpu")
    assert torch.equal(few_inputs(lambda v: 2 * v, x, device), 2 * x[:3])
    for count in (1, 2):
        few = few_inputs(lambda v: v, x[:count], device)
        assert torch.equal(few[:count], x[:count])
        assert torch.equal(few[-1], x[0].flip(-1))
        assert len(few) == count + 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_module_that_mixes_samples_is_refused_however_few_there_are(count: int) -> None:
    mixing = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3))
    x = torch.rand(count, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="treat each sample of a batch independently|more than 1 value per channel"):
        bg.Classifier(mixing, device="cpu").logits(x)
