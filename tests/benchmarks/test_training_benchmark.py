"""The table of all methods, at its smallest setting."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent.parent / "benchmarks" / "training_mnist.py"


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute on a core that is free
def test_the_table_of_all_methods(tmp_path: Path) -> None:
    def table(*words: str) -> str:
        command = [sys.executable, str(BENCHMARK), "--tiny", "--workers", "1", "--out", str(tmp_path), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = table("--networks", "mlp", "--methods", "standard", "PGD-7")
    rows = {
        line.split(" | ")[1]: [float(number) for number in re.findall(r"(\d+\.\d) ±", line)]
        for line in said.splitlines()[2:4]
    }
    assert list(rows) == ["standard", "PGD-7"]
    for clean, fgsm, strong_fgsm, pgd, strong_pgd in rows.values():
        assert clean > 70
        assert clean > fgsm > strong_fgsm
        assert fgsm >= pgd >= strong_pgd
    assert rows["PGD-7"][3] > rows["standard"][3] + 5  # PGD-20 at the ε that it was trained with
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(files) == 8  # two methods, two seeds, a checkpoint and its accuracies
    assert table("--networks", "mlp", "--methods", "standard", "PGD-7") == said
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
    whole = table("--seeds", "1", "--networks", "mlp")
    assert len(re.findall(r"^\| mlp \|", whole, flags=re.MULTILINE)) == 13
    assert "stopped" not in whole
    assert len(table("--seeds", "1", "--networks", "small_cnn", "--methods", "standard").splitlines()) == 6
