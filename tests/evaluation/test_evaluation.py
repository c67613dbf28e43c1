import io
import sys
import types

import pytest
import torch
from oracles import SmallNet, images
from torch import nn

from boundarygeo.evaluation import (
    BatchTuner,
    build_form,
    frozen_copy,
    in_batches,
    own_world,
    plain_form,
    precision_ladder,
    progress_bar,
)

CPU = torch.device("cpu")


def drive(tuner: BatchTuner, rate_at: dict[int, float], batches: int = 60) -> list[int]:
    """Feed a tuner full batches with known throughputs; the sizes it asked for, without repetitions."""
    sizes = []
    for _ in range(batches):
        if not sizes or sizes[-1] != tuner.size:
            sizes.append(tuner.size)
        tuner.record(tuner.size, tuner.size / rate_at[tuner.size])
    return sizes


def test_tuner_grows_while_throughput_grows_and_keeps_the_best() -> None:
    tuner = BatchTuner(CPU)
    sizes = drive(tuner, {16: 100, 32: 180, 64: 300, 128: 290, 256: 200})
    assert sizes == [16, 32, 64, 128, 256, 64]
    assert tuner.settled


def test_tuner_is_not_stopped_by_one_size_without_gain() -> None:
    assert drive(BatchTuner(CPU), {16: 100, 32: 100, 64: 300, 128: 100, 256: 100})[-1] == 64


def test_tuner_ignores_batches_that_are_not_full() -> None:
    tuner = BatchTuner(CPU)
    for _ in range(10):
        tuner.record(3, 1e-9)
    assert tuner.size == 16
    assert not tuner.settled


def test_a_size_that_cannot_be_filled_is_not_tried() -> None:
    tuner = BatchTuner(CPU)
    assert tuner.fitting(10) == 10
    assert tuner.fitting(1000) == 16
    drive(tuner, {16: 100, 32: 200, 64: 150, 128: 100}, batches=9)
    assert tuner.size == 128
    assert tuner.fitting(128) == 128
    assert tuner.fitting(127) == 32  # the best so far
    assert tuner.fitting(20) == 20
    drive(tuner, {128: 100}, batches=3)
    assert tuner.settled
    assert tuner.fitting(1000) == 32


def test_few_sizes_exist_of_what_does_not_fill_a_fixed_batch() -> None:
    def pieces(left: int) -> list[int]:
        sizes = []
        while left:
            sizes.append(BatchTuner(CPU, 2000).fitting(left))
            left -= sizes[-1]
        return sizes

    assert pieces(5337) == [2000, 2000, 1024, 256, 56, 1]
    assert pieces(7) == [7]
    seen = {size for left in range(1, 4000) for size in pieces(left)}
    assert len(seen) <= 4 * 7 + 1
    assert BatchTuner(CPU).fitting(13) == 13


def test_tuner_does_not_exceed_the_largest_size() -> None:
    sizes = drive(BatchTuner(CPU), {16 * 2**k: 100 * 2**k for k in range(8)})
    assert sizes[-1] == 2048


def test_the_first_batch_of_a_size_only_warms_up() -> None:
    tuner = BatchTuner(CPU)
    while not tuner.settled:
        size = tuner.size
        for rate in (1e9 if size == 16 else 1.0, size, size):  # the first one is absurd, and says nothing
            tuner.record(size, size / rate)
    assert tuner.size == 2048


def test_a_size_that_ran_out_of_memory_is_not_asked_for_again() -> None:
    # 16 to 64 went well, then memory became scarce: the best size so far is out of reach.
    tuner = BatchTuner(CPU)
    drive(tuner, {16: 100, 32: 200, 64: 400, 128: 800}, batches=9)
    assert tuner.size == 128
    for _ in range(3):
        assert tuner.out_of_memory()
    drive(tuner, {16: 100})
    assert tuner.size == 16


def test_the_bar_advances_by_what_is_done() -> None:
    tuner, steps = BatchTuner(CPU), []

    def work(start: int, stop: int) -> None:
        if stop - start > 10:
            raise torch.OutOfMemoryError("faked")

    bar = types.SimpleNamespace(update=steps.append)
    in_batches(work, 30, tuner=tuner, device=CPU, bar=bar)  # type: ignore[arg-type]
    assert steps == [8, 8, 8, 6]


@pytest.mark.parametrize(
    ("terminal", "progress", "shown"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_bars_are_for_terminals_and_can_be_refused(
    terminal: bool, progress: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    with progress_bar(3, description="work", unit="pieces", progress=progress) as bar:
        assert (not bar.disable) == shown


def test_out_of_memory_halves_until_it_fits_and_never_grows_again() -> None:
    tuner = BatchTuner(CPU)
    tuner.size = 64
    done, tried = [], []

    def work(start: int, stop: int) -> None:
        tried.append(stop - start)
        if stop - start > 10:
            raise torch.OutOfMemoryError("faked")
        done.extend(range(start, stop))

    in_batches(work, 30, tuner=tuner, device=CPU)
    assert tried == [30, 30, 16, 8, 8, 8, 6]  # 64 and 32 are both cut to the 30 there are
    assert done == list(range(30))
    assert tuner.size == 8
    tuner.record(8, 1e-9)
    assert tuner.size == 8


def test_out_of_memory_for_a_single_example_is_the_callers_to_see() -> None:
    def work(start: int, stop: int) -> None:
        raise torch.OutOfMemoryError("faked")

    with pytest.raises(torch.OutOfMemoryError):
        in_batches(work, 5, tuner=BatchTuner(CPU), device=CPU)


def test_batch_norms_are_folded_and_the_logits_stay() -> None:
    module, x = SmallNet().eval(), images(4)
    with torch.no_grad():
        form = build_form(plain_form(frozen_copy(module, CPU), x), "float32", x)
        assert form.rearranged
        assert not any(isinstance(m, nn.BatchNorm2d) for m in form.module.modules())
        torch.testing.assert_close(form(x), module(x), rtol=1e-4, atol=1e-4)


class OneNorm(nn.Module):
    """Two convolutions and one batch norm, combined by a function."""

    def __init__(self, combine) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(192, 2)
        self.norm.running_var.fill_(4.0)
        self.combine = combine

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.combine(self, x).flatten(1))


NOT_FOLDABLE = {
    "layer used twice": lambda m, x: m.norm(m.conv(x)) + m.conv(x * 2),
    "norm used twice": lambda m, x: m.norm(m.conv(x)) + m.norm(m.other(x)),
    "output read twice": lambda m, x: (before := m.conv(x)) * m.norm(before),
}


@pytest.mark.parametrize("case", NOT_FOLDABLE)
def test_a_norm_is_not_folded_into_what_others_use_and_the_rest_is_rearranged(case: str) -> None:
    module, x = OneNorm(NOT_FOLDABLE[case]).eval(), images(4)
    with torch.no_grad():
        form = build_form(plain_form(frozen_copy(module, CPU), x), "float32", x)
        assert form.rearranged  # a wrong fold would be noticed and given up, together with everything else
        assert any(isinstance(m, nn.BatchNorm2d) for m in form.module.modules())
        torch.testing.assert_close(form(x), module(x))


def test_the_judge_of_ties_runs_as_written() -> None:
    with torch.no_grad():
        form = build_form(plain_form(frozen_copy(SmallNet(), CPU), images(4)), "float64", images(4))
    assert not form.rearranged
    assert sum(isinstance(m, nn.BatchNorm2d) for m in form.module.modules()) == 2


def test_copies_are_frozen_and_in_eval_mode_and_share_nothing_but_parameters() -> None:
    module = SmallNet().train()
    duplicate = frozen_copy(module, CPU)
    assert not any(m.training for m in duplicate.modules())
    assert not any(p.requires_grad for p in duplicate.parameters())
    assert all(p.requires_grad for p in module.parameters())
    assert all(m.training for m in module.modules())
    assert duplicate.head.weight is not module.head.weight
    assert duplicate.head.weight.data_ptr() == module.head.weight.data_ptr()  # weights of a large module exist once
    assert duplicate.bn1.running_mean.data_ptr() != module.bn1.running_mean.data_ptr()
    duplicate.double()
    assert module.head.weight.dtype == torch.float32


def test_a_module_that_cannot_be_copied_runs_itself_where_it_is() -> None:
    class Single(nn.Linear):
        def __deepcopy__(self, memo: dict) -> nn.Module:
            raise RuntimeError("there is only one")

    module, x = Single(5, 3).eval(), images(4, shape=(5,))
    assert frozen_copy(module, CPU) is module
    with torch.no_grad():
        form = build_form(plain_form(module, x), "float32", x)
        assert form is not None
        assert torch.equal(form(x), module(x))
    with pytest.raises(ValueError, match=r"module cannot be copied \(RuntimeError in copy.deepcopy\): move it to meta"):
        frozen_copy(module, torch.device("meta"))


@pytest.mark.parametrize("first", [torch.relu, torch.nn.functional.relu, nn.ReLU()])
def test_rectifiers_do_not_overwrite_the_inputs(first) -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = first, nn.Linear(192, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.first(x).flatten(1))

    x = images(4) - 0.5
    before = x.clone()
    with torch.no_grad():
        form = build_form(plain_form(frozen_copy(Early().eval(), CPU), x), "float32", x)
        assert form is not None
        form(x)
    assert torch.equal(x, before)


def test_rectifiers_work_in_place_only_where_nobody_else_reads_and_gradients_stay() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(192, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            before = self.conv(x)
            return self.head((torch.relu(before) - torch.relu(before * 2 + 1) + before + torch.relu(x)).flatten(1))

    module, x = Shared().eval(), images(4) - 0.5
    form = build_form(plain_form(frozen_copy(module, CPU), x), "float32", x)
    assert form.rearranged
    inputs = x.clone().requires_grad_()
    torch.testing.assert_close(form(inputs), module(x))
    expected, got = (torch.autograd.grad(f(inputs).square().sum(), inputs)[0] for f in (module, form))
    torch.testing.assert_close(got, expected)
    assert torch.equal(inputs.detach(), x)


def test_a_module_that_cannot_be_traced_still_runs() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.flatten(1)) if x.sum() > 0 else self.head(-x.flatten(1))

    module, x = Branching().eval(), images(4)
    with torch.no_grad():
        form = build_form(plain_form(frozen_copy(module, CPU), x), "float32", x)
        assert form is not None
        torch.testing.assert_close(form(x), module(x))


def test_a_module_bound_to_float32_has_no_other_form() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().flatten(1)[:, :2]

    with torch.no_grad():
        plain = plain_form(Stubborn(), images(2))
        assert build_form(plain, "float64", images(2)) is None
        assert build_form(plain, "float32", images(2)) is not None


def test_ladder_ends_in_float64_and_refuses_unknown_names() -> None:
    assert precision_ladder("float32", CPU) == ("float32", "float64")
    assert precision_ladder("auto", CPU)[-2:] == ("float32", "float64")
    assert precision_ladder("bfloat16", CPU) == ("bfloat16",)
    with pytest.raises(ValueError, match="precision must be 'auto' or one of .* got 'half'"):
        precision_ladder("half", CPU)


def test_the_callers_settings_and_random_state_are_restored_even_after_an_error() -> None:
    torch.set_float32_matmul_precision("high")
    state = torch.get_rng_state()

    def fail_inside() -> None:
        with own_world():
            assert torch.get_float32_matmul_precision() == "highest"
            torch.rand(3)
            raise KeyError("inside")

    try:
        with pytest.raises(KeyError, match="inside"):
            fail_inside()
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_float32_matmul_precision("highest")
