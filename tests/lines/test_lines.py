import pytest
import torch
from oracles import Linear, SmallNet, images

import boundarygeo as bg
from boundarygeo.plots import lines as draw_lines

X, Y = images(5), torch.arange(5)


def clf_of(seed: int = 0) -> bg.Classifier:
    return bg.Classifier(SmallNet(seed), mean=(0.4, 0.5, 0.6), std=(0.5, 0.6, 0.7), device="cpu")


@pytest.mark.parametrize("direction", ["fgsm", "gradient", "random"])
@pytest.mark.parametrize("clip", [True, False])
def test_logits_are_those_of_the_points(direction: str, clip: bool) -> None:
    clf = clf_of()
    result = bg.logit_lines(clf, X, Y, direction=direction, extent=0.8, points=7, clip=clip)
    module = clf.module.eval()
    for example in range(5):
        for point, t in enumerate(result.t.tolist()):
            x = X[example] + t * result.direction[example]
            x = x.clamp(0, 1) if clip else x
            with torch.no_grad():
                expected = module(clf.normalise(x[None]))[0]
            torch.testing.assert_close(result.logits[example, point], expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(result.inputs(example, torch.tensor([point]))[0], x)


def test_a_linear_classifier_has_straight_lines_by_hand() -> None:
    weight = torch.tensor([3.0, -1.0, 0.5])
    clf = bg.Classifier(Linear(weight, 0.2))
    x, y = torch.full((1, 3), 0.5), torch.tensor([1])
    result = bg.logit_lines(clf, x, y, extent=(-0.1, 0.3), points=5)
    # FGSM climbs the loss of class 1: against sign(w), so that the score falls by ε‖w‖₁.
    score = float(x[0] @ weight) - 0.2 - result.t.float() * 4.5
    torch.testing.assert_close(result.logits[0, :, 1], score / 2, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.t, torch.tensor([-0.1, 0.0, 0.1, 0.2, 0.3], dtype=torch.float64))


def test_units_of_the_named_directions() -> None:
    sign, gradient, random = (
        bg.logit_lines(clf_of(), X, Y, direction=name, extent=0.1, points=3).direction.flatten(1)
        for name in ("fgsm", "gradient", "random")
    )
    assert sign.abs().eq(1).all()
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(random.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(gradient.sign(), sign)


def test_splitting_and_order_of_the_examples_do_not_matter() -> None:
    settings = {"direction": "random", "extent": 1.0, "points": 9, "seed": 3}
    whole = bg.logit_lines(clf_of(), X, Y, **settings)
    order = [3, 0, 4, 1, 2]
    parts = bg.logit_lines(clf_of(), X[order], Y[order], index=order, **settings)
    torch.testing.assert_close(parts.logits, whole.logits[order], rtol=1e-5, atol=1e-5)
    assert torch.equal(parts.direction, whole.direction[order])


def test_float64_is_more_exact_than_float32() -> None:
    single = bg.logit_lines(clf_of(), X, Y, extent=0.1, points=5)
    double = bg.logit_lines(clf_of(), X, Y, extent=0.1, points=5, precision="float64")
    torch.testing.assert_close(single.logits, double.logits, rtol=1e-4, atol=1e-4)
    assert double.provenance.precision == "float64"


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_cost_is_counted_and_examples_without_a_gradient_are_marked() -> None:
    result = bg.logit_lines(clf_of(), X, Y, extent=0.1, points=5, direction="random")
    assert (result.provenance.forwards, result.provenance.backwards) == (25, 0)
    flat = bg.Classifier(Linear(torch.zeros(3), 0.1))
    marked = bg.logit_lines(flat, torch.full((2, 3), 0.5), torch.tensor([0, 1]), extent=0.1, points=3)
    assert not marked.valid.any()


def test_saved_lines_come_back(tmp_path) -> None:
    result = bg.logit_lines(clf_of(), X, Y, extent=0.1, points=5)
    again = bg.load(result.save(tmp_path / "lines.zarr"))
    assert isinstance(again, bg.LogitLines)
    for name in ("logits", "t", "origin", "direction", "index"):
        assert torch.equal(getattr(again, name), getattr(result, name)), name
    assert again.bounds == result.bounds
    assert result.to_xarray().origin.dims == ("example", "input_0", "input_1", "input_2")


BAD_SETTINGS = [
    ({"extent": 0.0}, ValueError, "extent must be a positive number or"),
    ({"extent": (0.2, 0.1)}, ValueError, "low < high"),
    ({"extent": float("nan")}, ValueError, "extent must be"),
    ({"points": 1}, ValueError, "points must be a whole number, at least 2, got 1"),
    ({"direction": "sideways"}, ValueError, r"direction must be one of \['fgsm', 'gradient', 'random'\]"),
    ({"direction": torch.zeros_like(X)}, ValueError, "direction must not be zero, got 5 vectors of length zero"),
    ({"direction": torch.full_like(X, torch.nan)}, ValueError, "direction must be finite"),
    ({"direction": X[:2]}, ValueError, r"direction must have the shape of x, \[5, 3, 8, 8\], got \[2, 3, 8, 8\]"),
    ({"direction": X.long()}, TypeError, "direction must be a float tensor or Directions, got a tensor of torch.int64"),
    ({"direction": 3}, TypeError, "direction must be a float tensor or Directions, got int"),
    ({"index": [1, 2]}, ValueError, "index must be 5 integers >= 0"),
    ({"precision": "half"}, ValueError, "precision"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD_SETTINGS)
def test_unusable_settings_are_refused(settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bg.logit_lines(clf_of(), X, Y, **({"extent": 0.1} | settings))


def test_figure_boxes_the_inputs_that_are_still_right() -> None:
    result = bg.logit_lines(clf_of(), X, Y, extent=0.8, points=33)
    figure = draw_lines(result, cells=[1], class_names=list("abcde"), thumbnails=5)
    curves, strip = figure.subfigs[0].axes
    assert len(curves.lines) == 5 + 1  # the classes, and the line at the example
    nearest = [(result.t - middle).abs().argmin() for middle in torch.linspace(-0.64, 0.64, 5)]
    right = [bool(result.labels()[1, point] == 1) for point in nearest]
    assert len(strip.patches) == sum(right)
    assert len(strip.images) == 5
    assert {text.get_text() for text in figure.legends[0].get_texts()} >= {"true class", "a", "c", "d", "e"}


def test_figure_refuses_cells_that_do_not_exist() -> None:
    result = bg.logit_lines(clf_of(), X, Y, extent=0.1, points=3)
    with pytest.raises(ValueError, match="cells must be positions from 0 to 4"):
        draw_lines(result, cells=[5])
    with pytest.raises(TypeError, match="result must be LogitLines, got int"):
        draw_lines(3)  # type: ignore[arg-type]
