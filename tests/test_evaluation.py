import pytest
import torch
from oracles import SmallNet, images
from torch import nn

from boundarygeo.evaluation import BatchTuner, analysis, build_form, frozen_copy, in_batches, precision_ladder

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
        form = build_form(frozen_copy(module, CPU), "float32", x)
        assert form is not None
        assert form.rearranged
        assert not any(isinstance(m, nn.BatchNorm2d) for m in form.module.modules())
        torch.testing.assert_close(form(x), module(x), rtol=1e-4, atol=1e-4)


def test_a_norm_behind_a_layer_that_is_used_twice_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Linear(192, 2)
            self.norm.running_var.fill_(4.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((self.norm(self.conv(x)) + self.conv(x)).flatten(1))

    module, x = Twice().eval(), images(4)
    with torch.no_grad():
        form = build_form(frozen_copy(module, CPU), "float32", x)
        assert form is not None
        assert any(isinstance(m, nn.BatchNorm2d) for m in form.module.modules())
        torch.testing.assert_close(form(x), module(x))


def test_rectifiers_work_in_place_only_where_nobody_else_reads_and_gradients_stay() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(192, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            before = self.conv(x)
            return self.head((torch.relu(before) - torch.relu(before * 2 + 1) + before + torch.relu(x)).flatten(1))

    module, x = Shared().eval(), images(4) - 0.5
    form = build_form(frozen_copy(module, CPU), "float32", x)
    assert form is not None
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
        form = build_form(frozen_copy(module, CPU), "float32", x)
        assert form is not None
        torch.testing.assert_close(form(x), module(x))


def test_a_module_bound_to_float32_has_no_other_form() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().flatten(1)[:, :2]

    with torch.no_grad():
        assert build_form(Stubborn(), "float64", images(2)) is None
        assert build_form(Stubborn(), "float32", images(2)) is not None


def test_ladder_ends_in_float64_and_refuses_unknown_names() -> None:
    assert precision_ladder("float32", CPU) == ("float32", "float64")
    assert precision_ladder("auto", CPU)[-2:] == ("float32", "float64")
    assert precision_ladder("bfloat16", CPU) == ("bfloat16",)
    with pytest.raises(ValueError, match="precision must be 'auto' or one of .* got 'half'"):
        precision_ladder("half", CPU)


def test_analysis_restores_modes_settings_and_random_state_even_after_an_error() -> None:
    module = SmallNet().train()
    module.bn1.eval()
    torch.set_float32_matmul_precision("high")
    state = torch.get_rng_state()

    def fail_inside() -> None:
        with analysis(module, CPU):
            assert not module.bn2.training
            assert torch.get_float32_matmul_precision() == "highest"
            torch.rand(3)
            raise KeyError("inside")

    try:
        with pytest.raises(KeyError, match="inside"):
            fail_inside()
        assert module.bn2.training
        assert not module.bn1.training
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_float32_matmul_precision("highest")
