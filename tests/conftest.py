"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by where they are, and those that took long when all were measured."""
    lines = (Path(__file__).parent / "slow_tests.txt").read_text().splitlines()
    slow = {line.split(" ")[1] for line in lines}  # scripts/slow_tests.py writes them
    for item in items:
        if item.nodeid.split("[")[0] in slow:
            item.add_marker("slow")
        if item.path.parent.name == "experiments":
            item.add_marker("experiments")
        elif item.path.name == "test_corrupt_inputs.py":
            item.add_marker("corrupt")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Give the reference data folder (``TOMADAPT_DATA``), or skip where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TOMADAPT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"reference data missing: {folder} is no folder; set TOMADAPT_DATA")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread, as other processes that a test starts: faster where cores are shared."""
    import torch  # not above: tests that need none are collected sooner

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick_first_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three iterations from random poses, not twelve, where any first reference will do."""
    monkeypatch.setattr("tomadapt.recover.initial_model.ITERATIONS", 3)


@pytest.fixture(scope="module")
def quick_screens() -> Iterator[None]:
    """The judge's common basis from a quarter of the rotations, where its accuracy is not tested.

    The tests of the judge and of its screens have it whole.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomadapt.judge.screen._SOME_ROTATIONS", 250)
        patch.setattr("tomadapt.judge.screen.MAX_COMPONENTS", 400)
        yield


@pytest.fixture
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports whose pictures are not rendered; fixtures of modules are made before, with them."""
    monkeypatch.setattr(
        "tomadapt.report.style._uri", lambda _figure, mime, **_: f"data:image/{mime};base64,"
    )
