"""The page of averages."""

import numpy as np
import pytest

from tomadapt.fsc import half_map_fsc
from tomadapt.recover.averages import AveragedClass
from tomadapt.recover.averaging_state import Average
from tomadapt.recover.discover import FoundCluster
from tomadapt.recover.poses import Poses
from tomadapt.report.structures_page import found_columns, write_structures_page


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
    write_structures_page(
        done, tmp_path / "report.html", title="Structures & more", made={"defocus": "5 µm"}
    )
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<td>few</td>" in page
    assert "fewer than 4 particles" in page
    assert "Structures &amp; more" in page
    assert "<td>defocus</td><td>5 µm</td>" in page
    for loading in ("<script src", "<link", '<img src="http', "<iframe"):
        assert loading not in page
    assert page.count("<img src=") == 3


def test_the_same_averages_give_the_same_page(done, tmp_path):
    for name in ("a.html", "b.html"):
        write_structures_page(done, tmp_path / name, title="Structures", made={})
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_without_any_map_there_is_the_table(done, tmp_path):
    write_structures_page(done[2:], tmp_path / "report.html", title="Structures", made={})
    page = (tmp_path / "report.html").read_text()
    assert "<td>few</td>" in page
    assert "<img" not in page


def test_what_was_found_of_clusters_stands_in_the_table(done, tmp_path):
    found = [
        FoundCluster("noise", 4, "null", 0.75, 1.25, 6.0, "tric", 0.4, 9.5, candidate=True),
        FoundCluster("<b>bold</b>", 4, "tric", 1.0, 0.5, 3.0, "tric", 0.9, 2.75),
        FoundCluster("few", 2, "tric", 1.0, 0.5),
    ]
    path = tmp_path / "report.html"
    write_structures_page(done, path, title="Clusters", made={}, columns=found_columns(found))
    page = path.read_text()
    assert "<td>candidate</td><td>null (75%)</td><td>1.250</td><td>tric</td><td>9.50</td>" in page
    assert page.count("<td>candidate</td>") == 1
    assert "mixture of known ones" in page
