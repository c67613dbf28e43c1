"""Spectra of hidden representations against matrices whose singular values are known."""

import numpy as np
import pytest
import torch
from balanced import balanced_net
from oracles import images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.plots.spectrum import spectrum
from boundarygeo.representations import hidden_spectrum


class Named(nn.Module):
    """A linear layer with known weights, an in-place rectifier, and a head."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.hidden = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(weight.shape[0], 3)
        self.hidden.weight = nn.Parameter(weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.hidden(x)))


def test_representations_whose_spectrum_is_known() -> None:
    # Class 0: rows 3e₁ and 4e₂ times 2; class 1: one point, four times; class 2: a line through the origin.
    x = torch.tensor([[3.0, 0, 0], [0, 4, 0], [1, 2, 2], [1, 2, 2], [1, 2, 2], [1, 2, 2], [0, 0, 1], [0, 0, -1]])
    y = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2])
    found = hidden_spectrum(bg.Classifier(Named(2 * torch.eye(3)), bounds=(-5, 5)), x, y, layers=["hidden"])
    nan = torch.nan
    expected = torch.tensor([[8.0, 6, nan], [12, 0, 0], [8**0.5, 0, nan]], dtype=torch.float64)
    torch.testing.assert_close(found.values[0], expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    centred = torch.tensor([[50**0.5, 0, nan], [0, 0, 0], [8**0.5, 0, nan]], dtype=torch.float64)
    torch.testing.assert_close(found.centred[0], centred, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert found.classes.tolist() == [0, 1, 2]
    assert found.n.tolist() == [2, 4, 2]
    assert found.features.tolist() == [3]
    torch.testing.assert_close(found.rest[0], torch.tensor([6.0, 0, 0], dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        found.rest_share[0], torch.tensor([6 / 14, 0, 0], dtype=torch.float64), atol=1e-5, rtol=0
    )
    assert found.effective_rank[0, [0, 2]].tolist() == pytest.approx([1, 1])


def test_effective_rank_counts_directions_of_equal_variance() -> None:
    x = torch.cat([torch.eye(3), -torch.eye(3)])
    found = hidden_spectrum(
        bg.Classifier(Named(torch.eye(3)), bounds=(-1, 1)), x, torch.zeros(6, dtype=torch.int64), layers=["input"]
    )
    assert float(found.effective_rank[0, 0]) == pytest.approx(3)


def test_outputs_are_those_before_a_rectifier_overwrites_them() -> None:
    x = torch.tensor([[0.5, 0.2], [0.1, 0.7], [0.9, 0.3]])
    weight = torch.tensor([[1.0, -2.0], [-3.0, 1.0]])
    found = hidden_spectrum(
        bg.Classifier(Named(weight)), x, torch.zeros(3, dtype=torch.int64), layers=["hidden", "relu", "input"]
    )
    before = (x @ weight.T).numpy()
    for number, matrix in enumerate((before, before.clip(0), x.numpy())):
        np.testing.assert_allclose(found.values[number, 0, :2], np.linalg.svd(matrix)[1], rtol=1e-5)
    assert found.layers == ("hidden", "relu", "input")


def test_convolutions_against_a_slow_reference() -> None:
    module = balanced_net()
    clf = bg.Classifier(module, mean=(0.4, 0.5, 0.6), std=(0.5, 0.7, 0.9))
    x = images(20, seed=1)
    y = torch.arange(20) % 3
    found = hidden_spectrum(clf, x, y, layers=["conv1", "bn2", "head"])
    normal = clf.normalise(x)
    with torch.no_grad():
        conv1 = module.conv1(normal)
        first = torch.relu(module.bn1(conv1))
        bn2 = module.bn2(module.conv2(first))
    for number, features in enumerate((conv1, bn2, module(normal).detach())):
        assert found.features[number] == features[0].numel()
        for label in range(3):
            rows = features[y == label].flatten(1).double().numpy()
            for spectra, matrix in ((found.values, rows), (found.centred, rows - rows.mean(0))):
                values = np.linalg.svd(matrix, compute_uv=False)
                got = spectra[number, label].numpy()
                np.testing.assert_allclose(got[: len(values)], values, rtol=1e-3, atol=1e-4 * values[0])
                assert np.isnan(got[len(values) :]).all()
    assert found.provenance.forwards == 20
    assert not module.training


def test_spectra_do_not_depend_on_the_order() -> None:
    clf = bg.Classifier(balanced_net())
    x, y = images(15, seed=1), torch.arange(15) % 2
    found = hidden_spectrum(clf, x, y, layers=["conv2"])
    other = hidden_spectrum(clf, x.flip(0), y.flip(0), layers=["conv2"])
    torch.testing.assert_close(found.values, other.values, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_the_callers_module_keeps_no_hooks() -> None:
    module = balanced_net()
    hidden_spectrum(bg.Classifier(module), images(4), torch.arange(4) % 2, layers=["conv1", "head"])
    assert not any(part._forward_hooks for part in module.modules())


class Twice(nn.Module):
    """One layer called twice, one never, and one that gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.pair, self.head = nn.Linear(4, 4), nn.Linear(4, 4), Pair(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pair(self.twice(self.twice(x)))[0])


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (["head", "hed"], ValueError, r"any of \['input', 'twice', 'never', 'pair', 'head'\], got \['hed'\]"),
        ([], ValueError, "got none"),
        (["head", "head"], ValueError, "layers must be different"),
        ("head", TypeError, "layers must be a list of names"),
        (["twice"], ValueError, "layer 'twice' must be called once in a forward pass, got 2 calls"),
        (["never"], ValueError, "layer 'never' must be called once in a forward pass, got 0 calls"),
        (["pair"], TypeError, "layer 'pair' must return a tensor, got tuple"),
    ],
)
def test_layers_that_have_no_spectrum_are_refused(layers: list[str], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        hidden_spectrum(bg.Classifier(Twice()), torch.rand(4, 4), torch.tensor([0, 0, 1, 1]), layers=layers)


def test_every_example_needs_a_class() -> None:
    with pytest.raises(ValueError, match="y must have shape"):
        hidden_spectrum(bg.Classifier(Twice()), torch.rand(4, 4), torch.tensor([0, 0]), layers=["head"])


# The figure


def test_the_figure_draws_the_mean_and_the_range_of_the_classes() -> None:
    x, y = images(30, seed=1), torch.arange(30) % 3
    y[:4] = 0  # classes of different sizes
    found = [hidden_spectrum(bg.Classifier(balanced_net(seed)), x, y, layers=["conv1", "head"]) for seed in (0, 1)]
    for centred in (False, True):
        figure = spectrum(found, names=["plain", "mixup"], centred=centred, ranks=4)
        assert len(figure.axes) == 2
        for number, axes in enumerate(figure.axes):
            for line, band, result in zip(axes.get_lines(), axes.collections, found, strict=True):
                values = (result.centred if centred else result.values)[number] / result.n.sqrt()[:, None]
                np.testing.assert_allclose(line.get_ydata(), values.mean(0)[:4])
                np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
                corners = np.asarray(band.get_paths()[0].vertices)
                first = corners[corners[:, 0] == 1, 1]
                assert (first.min(), first.max()) == pytest.approx(
                    (float(values[:, 0].min()), float(values[:, 0].max()))
                )
            words = [text.get_text() for text in axes.get_legend().get_texts()]
            assert words == [
                f"{name}: {float(result.rest[number].mean()):.1f}"
                for name, result in zip(("plain", "mixup"), found, strict=True)
            ]
    assert figure.axes[0].get_title() == "layer 'conv1', 512 features"
    assert "n = 9 to 12" in figure.get_suptitle()


def test_figures_that_cannot_be_drawn() -> None:
    found = [
        hidden_spectrum(bg.Classifier(balanced_net()), images(4), torch.arange(4) % 2, layers=[name])
        for name in ("conv1", "head")
    ]
    with pytest.raises(ValueError, match="spectra must be of the same layers"):
        spectrum(found)
    with pytest.raises(ValueError, match="ranks must be at least 2, got 1"):
        spectrum(found[0], ranks=1)
    with pytest.raises(ValueError, match="spectra must have at least one entry"):
        spectrum([])
