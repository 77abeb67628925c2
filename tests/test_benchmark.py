"""The figures that scripts compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import tomadapt.benchmark
from tomadapt.benchmark import benchmark
from tomadapt.cli import main


def test_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tomadapt.benchmark, "TRAINING_BATCH", 4)
    figures = benchmark(box=24, seconds=0.1, device="cpu")
    assert figures["simulate_per_s"] > 0
    for work in ("train_per_s", "predict_per_s"):
        assert set(figures[work]) == {"paper", "default"}
        assert all(rate > 0 for rate in figures[work].values())
    assert figures["threads"] == torch.get_num_threads()
    assert figures["dtype"] == "float32"
    assert figures["device"] == "cpu"
    assert (figures["box"], figures["tilts"], figures["batch"]) == (24, 41, 4)
    assert figures["processor"]
    assert {"python", "tomadapt", "torch", "numpy"} <= set(figures["versions"])
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def measure(**options: object) -> dict[str, object]:
        asked.append(options)
        return {"simulate_per_s": 1.5}

    monkeypatch.setattr(tomadapt.benchmark, "benchmark", measure)
    path = tmp_path / "new" / "figures.json"
    monkeypatch.setattr(sys, "argv", ["tomadapt", "benchmark", "--box", "32", "--json", str(path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert asked == [{"box": 32, "device": "auto"}]
    assert json.loads(path.read_text()) == {"simulate_per_s": 1.5}
    assert json.loads(capsys.readouterr().out) == {"simulate_per_s": 1.5}
