"""The benchmark that runs where a GPU is at hand: all its stages, tiny, on the CPU."""

import sys
from pathlib import Path

import pytest

import boundarygeo as bg

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.mark.slow
def test_a_dry_run_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delenv("BOUNDARYGEO_DATA", raising=False)
    import gpu

    out = tmp_path / "gpu.md"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry-run", "--out", str(out)])
    gpu.main()
    written = out.read_text()
    assert "failed" not in written, written
    assert [line for line in written.splitlines() if line.startswith("## ")] == [
        f"## {stage.__doc__.rstrip('.')}" for stage in gpu.STAGES
    ]
    assert f"boundarygeo {bg.__version__}" in written
    assert "0 of 81 pixels of 1 default maps have another label" in written
    assert written.splitlines()[-1] in capsys.readouterr().out
