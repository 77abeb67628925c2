"""The page of averages."""

import numpy as np
import pytest

from tomadapt.fsc import half_map_fsc
from tomadapt.recover.averages import AveragedClass
from tomadapt.recover.averaging_state import Average
from tomadapt.recover.poses import Poses
from tomadapt.report.structures_page import write_structures_page


@pytest.fixture
def done() -> list[AveragedClass]:
    rng = np.random.default_rng(0)
    r = np.arange(16) - 8
    ball = np.exp(-(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2) / 20).astype(np.float32)
    one = np.ones((4, 1), np.float32)
    poses = Poses(np.tile(np.eye(3, dtype=np.float32), (4, 1, 1, 1)), one[..., None] * 0, one, one)
    history = [
        {"iteration": float(i), "median_turn_deg": 9.0 / i, "resolution_nm": 4.0} for i in (1, 2)
    ]
    mask = np.ones_like(ball)
    fsc = half_map_fsc(ball, ball, mask, seed=0)
    result = Average(ball, (ball, ball), mask, 10.0, fsc, poses, np.arange(4) % 2, history)
    noise = rng.normal(size=(16, 16, 16)).astype(np.float32)
    other = Average(noise, (noise, noise), mask, 10.0, fsc, poses, np.arange(4) % 2, history)
    return [
        AveragedClass("<b>bold</b>", 4, result),
        AveragedClass("noise", 4, other),
        AveragedClass("few", 2, None, "fewer than 4 particles"),
    ]


def test_all_classes_are_there_and_nothing_is_loaded(done, tmp_path):
    write_structures_page(done, tmp_path / "report.html", title="Structures & more")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<td>few</td>" in page
    assert "fewer than 4 particles" in page
    assert "Structures &amp; more" in page
    for loading in ("<script src", "<link", '<img src="http', "<iframe"):
        assert loading not in page
    assert page.count("<img src=") == 3


def test_the_same_averages_give_the_same_page(done, tmp_path):
    for name in ("a.html", "b.html"):
        write_structures_page(done, tmp_path / name, title="Structures")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_without_any_map_there_is_the_table(done, tmp_path):
    write_structures_page(done[2:], tmp_path / "report.html", title="Structures")
    page = (tmp_path / "report.html").read_text()
    assert "<td>few</td>" in page
    assert "<img" not in page
