import pytest
import torch
import torch.nn.functional as F
from oracles import Linear, SmallNet, images
from torch import Tensor, nn

import boundarygeo as bg


def test_logits_are_those_of_the_normalised_module_for_any_number_of_examples() -> None:
    module, x = SmallNet().eval(), images(301)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    clf = bg.Classifier(module, mean=mean, std=std, device="cpu")
    with torch.no_grad():
        expected = module((x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    torch.testing.assert_close(clf.logits(x), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(clf.predict(x), expected.argmax(1))


def test_scalar_mean_and_std_and_inputs_without_channels() -> None:
    clf = bg.Classifier(nn.Identity(), mean=0.5, std=0.25)
    torch.testing.assert_close(clf.logits(torch.tensor([[0.5, 1.0]])), torch.tensor([[0.0, 2.0]]))


@pytest.mark.parametrize(("precision", "dtype"), [("float64", torch.float64), ("float32", torch.float32)])
def test_logits_have_the_precision_that_is_asked_for(precision: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[0.5, 0.5 + 1e-12]], dtype=torch.float64)
    logits = bg.Classifier(nn.Identity(), mean=0.1, std=0.3).logits(x, precision=precision)
    assert logits.dtype == dtype
    assert bool(logits[0, 0] < logits[0, 1]) == (dtype == torch.float64)


def test_logits_in_bfloat16_are_given_in_float32() -> None:
    x = images(4)
    clf = bg.Classifier(SmallNet(), device="cpu")
    logits, exact = clf.logits(x, precision="bfloat16"), clf.logits(x)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())
    torch.testing.assert_close(logits, exact, rtol=0.1, atol=0.3)


def test_directions_are_normalised_as_differences_of_inputs() -> None:
    clf = bg.Classifier(SmallNet(), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), device="cpu")
    x, v = images(2), images(2, seed=1) - 0.5
    torch.testing.assert_close(clf.normalise_direction(v), clf.normalise(x + v) - clf.normalise(x))
    plain = bg.Classifier(SmallNet(), device="cpu")
    assert torch.equal(plain.normalise_direction(v), v)


def test_margin_by_hand() -> None:
    clf = bg.Classifier(nn.Identity())
    x = torch.tensor([[0.9, 0.1, 0.4], [0.2, 0.3, 0.8]])
    torch.testing.assert_close(clf.margin(x, torch.tensor([0, 1])), torch.tensor([0.5, -0.5]))


@pytest.mark.parametrize("loss", ["cross_entropy", "log_odds", "margin"])
def test_input_gradient_of_a_linear_classifier_by_hand(loss: str) -> None:
    weight = torch.tensor([1.0, -2.0, 0.5])
    clf = bg.Classifier(Linear(weight, 0.3))
    x = images(4, shape=(3,))
    y = torch.tensor([1, 0, 1, 0])
    sign = torch.where(y == 1, -1.0, 1.0)[:, None]  # the loss falls along w for class 1
    score = -sign[:, 0] * (x @ weight - 0.3)  # logit of the true class minus the other
    factor = torch.sigmoid(-score)[:, None] if loss == "cross_entropy" else 1.0
    torch.testing.assert_close(clf.input_gradient(x, y, loss=loss), sign * weight * factor)


def test_input_gradient_agrees_with_autograd_through_the_textbook_loss() -> None:
    module, x, y = SmallNet().eval(), images(6), torch.tensor([0, 1, 2, 3, 4, 0])
    clf = bg.Classifier(module, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), device="cpu")
    inputs = x.clone().requires_grad_()
    shifted = (inputs - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    (expected,) = torch.autograd.grad(F.cross_entropy(module(shifted), y, reduction="sum"), inputs)
    torch.testing.assert_close(clf.input_gradient(x, y), expected, rtol=1e-3, atol=1e-5)


def test_direction_survives_confidence_where_the_textbook_gradient_is_wrong() -> None:
    # Logits (40, 0, 0): float32 softmax is exactly 1, and the textbook gradient loses the true class's part.
    module = nn.Linear(2, 3)
    module.weight = nn.Parameter(torch.tensor([[40.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    module.bias = nn.Parameter(torch.zeros(3))
    clf = bg.Classifier(module)
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    inputs = x.clone().requires_grad_()
    (textbook,) = torch.autograd.grad(F.cross_entropy(module(inputs), y), inputs)
    assert textbook[0, 0] == 0
    torch.testing.assert_close(clf.input_gradient(x, y, loss="log_odds"), torch.tensor([[-40.0, 1.0]]))
    assert clf.input_gradient(x, y)[0, 0] < 0


def test_caller_keeps_mode_gradients_device_and_random_state() -> None:
    module, x, y = SmallNet().train(), images(5), torch.arange(5)
    clf = bg.Classifier(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    x.requires_grad_()
    clf.logits(x)
    clf.input_gradient(x, y)
    assert module.training
    assert module.bn1.training
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert x.grad is None
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_works_inside_no_grad_and_inference_mode() -> None:
    clf, x, y = bg.Classifier(SmallNet()), images(3), torch.arange(3)
    expected = clf.input_gradient(x, y)
    with torch.inference_mode():
        assert torch.equal(clf.input_gradient(images(3), torch.arange(3)), expected)
    with torch.no_grad():
        assert torch.equal(clf.input_gradient(x, y), expected)


@pytest.mark.parametrize("change", ["optimiser", "by hand", "load_state_dict", "buffer by hand", "order by hand"])
def test_changed_weights_are_noticed(change: str) -> None:
    module, x = SmallNet(0), images(3)
    clf = bg.Classifier(module, device="cpu")
    first = clf.logits(x)
    if change == "optimiser":
        for p in module.parameters():
            p.grad = torch.ones_like(p)
        torch.optim.SGD(module.parameters(), lr=0.1).step()
    elif change == "by hand":
        module.head.weight.data.mul_(2)
    elif change == "buffer by hand":
        module.bn1.running_mean.data.add_(1)
    elif change == "order by hand":  # no sum changes
        with torch.no_grad():
            module.head.weight.copy_(module.head.weight.flip(0))
    else:
        module.load_state_dict(SmallNet(1).state_dict())
    with torch.no_grad():
        expected = module.eval()(x)
    assert not torch.allclose(first, expected, rtol=1e-2)
    torch.testing.assert_close(clf.logits(x), expected, rtol=1e-4, atol=1e-4)


def test_changed_weights_are_checked_again() -> None:
    module, x = SmallNet(), images(3)
    clf = bg.Classifier(module, device="cpu")
    clf.logits(x)
    module.head.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="finite logits, got NaN"):
        clf.logits(x)


@pytest.mark.parametrize("how", ["data", "data in place", "parameter"])
def test_weights_that_only_change_places_are_noticed(how: str) -> None:
    module, x = nn.Linear(4, 3), images(3, shape=(4,))
    clf = bg.Classifier(module, device="cpu")
    clf.logits(x)
    flipped = module.weight.detach().flip(0).clone()
    if how == "data":
        module.weight.data = flipped
    elif how == "data in place":
        module.weight.data.copy_(flipped)
    else:
        module.weight = nn.Parameter(flipped)
    with torch.no_grad():
        torch.testing.assert_close(clf.logits(x), module(x))


def test_counts_forwards_and_backwards() -> None:
    clf = bg.Classifier(SmallNet())
    clf.logits(images(70))
    assert (clf.counts.forwards, clf.counts.backwards) == (70, 0)
    clf.input_gradient(images(30), torch.zeros(30, dtype=torch.int64))
    assert (clf.counts.forwards, clf.counts.backwards) == (100, 30)


class Returns(nn.Module):
    """A module whose output is whatever a function makes of its input."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor):
        return self.function(x.flatten(1))


BAD_MODULES = {
    "tuple": (lambda x: (x, x), TypeError, "must return a tensor of logits .* got tuple"),
    "batch": (lambda x: x[:1].repeat(7, 1), ValueError, r"got \[7, 192\]"),
    "rank": (lambda x: x[:, 0], ValueError, r"at least two logits, got one per input \(\[[34]\]\)"),
    "one logit": (lambda x: x[:, :1], ValueError, "at least two logits.*torch.cat"),
    "nan": (lambda x: x / 0 * 0, ValueError, "finite logits, got NaN"),
    "mixing": (lambda x: x - x.mean(0), ValueError, "each sample of a batch independently"),
    "noisy": (lambda x: x + torch.rand_like(x), ValueError, "must be deterministic"),
}


@pytest.mark.parametrize("case", BAD_MODULES)
def test_unusable_modules_are_refused_in_one_line(case: str) -> None:
    function, error, message = BAD_MODULES[case]
    with pytest.raises(error, match=message) as caught:
        bg.Classifier(Returns(function)).logits(images(5))
    assert "\n" not in str(caught.value)


def test_logits_that_are_small_differences_of_large_sums_do_not_seem_to_mix_samples() -> None:
    class Rounding(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # As a sum over a batch may be made in another order than that over one input.
            rounding = 1e-5 * (len(x) - 1) if x.dtype == torch.float32 else 0.0
            return x.flatten(1)[:, :3] * 1e-3 + rounding

    x = images(4)
    assert bg.Classifier(Rounding()).logits(x).shape == (4, 3)


def test_batch_norm_without_running_statistics_is_refused_even_for_one_example() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192, track_running_stats=False), nn.Linear(192, 3))
    with pytest.raises(ValueError, match="Expected more than 1 value|each sample of a batch independently"):
        bg.Classifier(module).logits(images(1))


def test_mixing_is_noticed_even_for_one_example() -> None:
    with pytest.raises(ValueError, match="each sample of a batch independently"):
        bg.Classifier(Returns(lambda x: x - x.mean(0))).logits(images(1))


class Stubborn(nn.Module):
    """Computes in float32, whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().flatten(1)[:, :3]


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_a_precision_the_module_does_not_run_in_is_refused_by_name_and_left_out_otherwise(precision: str) -> None:
    clf, x = bg.Classifier(Stubborn(), device="cpu"), images(2)
    with clf.session(x) as session:
        assert session.ladder("auto", x.shape[1:]) == ("float32",)
        with pytest.raises(ValueError, match=f"the module does not run in precision '{precision}'"):
            session.ladder(precision, x.shape[1:])
    with pytest.raises(ValueError, match=f"the module does not run in precision '{precision}'"):
        clf.logits(x, precision=precision)


BAD_INPUTS = {
    "bytes": ((images(2) * 255).byte(), TypeError, "x must be a float tensor .* got a tensor of torch.uint8"),
    "numpy": (images(2).numpy(), TypeError, "x must be a float tensor .* got ndarray"),
    "scale": (images(2) * 255, ValueError, r"must lie in \[0, 1\] before normalisation"),
    "negative": (images(2) - 0.5, ValueError, r"must lie in \[0, 1\]"),
    "nan": (images(2).index_fill(0, torch.tensor([0]), torch.nan), ValueError, r"must lie in \[0, 1\]"),
    "none": (images(0), ValueError, "must have shape"),
    "channels": (images(2, shape=(1, 8, 8)), ValueError, "3 channels in dimension 1"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_unusable_inputs_are_refused(case: str) -> None:
    x, error, message = BAD_INPUTS[case]
    with pytest.raises(error, match=message):
        bg.Classifier(SmallNet(), mean=(0.5, 0.5, 0.5)).logits(x)


def test_rounding_at_the_bounds_is_forgiven() -> None:
    x = images(2)
    x[0, 0, 0, 0] = 1 + 1e-6
    assert bg.Classifier(SmallNet()).logits(x).shape == (2, 5)


def test_rounding_at_the_bounds_is_a_share_of_their_width() -> None:
    x = torch.tensor([[255 + 1e-3, 0.0, 3.0]])
    assert bg.Classifier(nn.Identity(), bounds=(0, 255)).predict(x) == 0
    with pytest.raises(ValueError, match=r"must lie in \[0, 255\]"):
        bg.Classifier(nn.Identity(), bounds=(0, 255)).predict(x + 0.1)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        bg.Classifier(nn.Identity()).predict(torch.tensor([[1 + 1e-3, 0.0]]))


def test_the_device_is_by_default_that_of_a_module_on_an_accelerator() -> None:
    assert bg.Classifier(nn.Linear(2, 2, device="meta")).device.type == "meta"
    assert bg.Classifier(nn.Linear(2, 2, device="meta"), device="cpu").device.type == "cpu"


BAD_LABELS = {
    "float": (torch.tensor([0.0, 1.0]), TypeError, "integer tensor of classes, got a tensor of torch.float32"),
    "list": ([0, 1], TypeError, "got list"),
    "length": (torch.tensor([0]), ValueError, r"shape \[2\], one class per example, got \[1\]"),
    "large": (torch.tensor([0, 5]), ValueError, r"in \[0, 5\), got values from 0 to 5"),
    "negative": (torch.tensor([0, -1]), ValueError, "got values from -1 to 0"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_unusable_labels_are_refused(case: str) -> None:
    y, error, message = BAD_LABELS[case]
    clf = bg.Classifier(SmallNet())
    for call in (clf.margin, clf.input_gradient):
        with pytest.raises(error, match=message):
            call(images(2), y)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"module": lambda x: x}, TypeError, "module must be a torch.nn.Module, got function"),
        ({"bounds": (1.0, 0.0)}, ValueError, "bounds must be"),
        ({"std": (0.0, 1.0, 1.0)}, ValueError, "std must be positive"),
        (
            {"mean": (0.1, 0.2), "std": (1.0, 1.0, 1.0)},
            ValueError,
            r"values in std must match that in mean \(2\), got 3",
        ),
        ({"mean": float("nan")}, ValueError, "mean must be one finite number"),
        ({"device": "nonsense"}, ValueError, "device must be 'auto' or a device"),
        ({"num_classes": 1}, ValueError, "num_classes must be at least 2"),
    ],
)
def test_unusable_settings_are_refused(arguments: dict, error: type[Exception], message: str) -> None:
    module = arguments.pop("module", SmallNet())
    with pytest.raises(error, match=message):
        bg.Classifier(module, **arguments)


def test_wrong_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the module returns 5 logits, but num_classes is 7"):
        bg.Classifier(SmallNet(), num_classes=7).logits(images(2))
