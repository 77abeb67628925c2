"""The figures that scripts compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import tomadapt.benchmark
from tomadapt.benchmark import benchmark, simulate_breakdown
from tomadapt.cli import main
from tomadapt.simulate.phantom import GaussianPhantom


def test_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tomadapt.benchmark, "TRAINING_BATCH", 4)
    figures = benchmark(box=24, seconds=0.1, device="cpu")
    assert figures["simulate_per_s"] > 0
    assert figures["simulate_stored_per_s"] > 0
    assert figures["simulate_breakdown"]["ratio"] > 0
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


def test_simulation_breakdown() -> None:
    """The parts are the whole's, the floor is that of its parts, and both take some time."""
    threads = torch.get_num_threads()
    density = GaussianPhantom.random(seed=1, radius=5).density(24)
    found = simulate_breakdown(density, seconds=0.3)
    assert torch.get_num_threads() == threads
    parts, floor = found["parts_ms"], found["floor_parts_ms"]
    assert set(parts) == {"poses", "normals", "slices", "images", "spectra", "inversion", "other"}
    assert set(floor) == {"normals", "transforms", "memory"}
    assert found["particle_ms"] == pytest.approx(sum(parts.values()), abs=0.01)
    assert found["floor_ms"] == pytest.approx(sum(floor.values()), abs=0.01)
    assert found["ratio"] == pytest.approx(found["particle_ms"] / found["floor_ms"], rel=0.05)
    assert min(floor.values()) > 0
    assert found["ratio"] > 1


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
