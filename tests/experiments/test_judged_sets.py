"""Sets with a known truth, as the experiments on others' data compare them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tomadapt.acquisition import Acquisition
from tomadapt.errors import InputError
from tomadapt.experiments import (
    limits,
    second_round,
    spheres,
    third_party,
    third_party_tomograms,
)
from tomadapt.experiments.judged_sets import Judged, judge_set, read_table
from tomadapt.experiments.scales import SMOKE, Setting
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.recover.recording import StatedRecording
from tomadapt.simulate.dataset import SimulationConfig, open_set, simulate_set


def judged(*left_out: str) -> Judged:
    return Judged(
        truth=np.array(["a", "a", "b", "null"]),
        label=np.array(["a", "null", "null", "null"]),
        probability=np.array([0.95, 0.55, 0.85, 0.95]),
        unknown=np.array([0.1, 0.2, 0.9, 0.0]),
        fdr=np.array([0.02, 1.0, 1.0, 1.0]),
        homologue=np.zeros(4, dtype=bool),
        left_out=left_out,
        seconds=1.0,
        templates=40,
        snr=0.05,
    )


def test_what_is_not_named_is_right_without_a_label() -> None:
    np.testing.assert_array_equal(judged().right, [True, False, False, True])
    np.testing.assert_array_equal(judged("b").right, [True, False, True, True])


def test_calibration_error_by_hand() -> None:
    # Bins of 0.95 (2 of 2 right), 0.85 (0 of 1) and 0.55 (0 of 1).
    assert judged().calibration_error() == pytest.approx((2 * 0.05 + 0.85 + 0.55) / 4)


def test_unknown_ranks_the_class_left_out() -> None:
    assert judged().unknown_auroc() is None
    assert judged("b").unknown_auroc() == 1.0


def test_precision_at_a_rate_by_hand() -> None:
    named = Judged(
        truth=np.array(["a", "a", "null", "null", "b"]),
        label=np.array(["a", "a", "a", "a", "b"]),
        probability=np.array([1.0, 0.9, 0.8, 0.9, 0.5]),
        unknown=np.zeros(5),
        fdr=np.array([0.0, 0.01, 0.04, 0.03, 0.3]),
        homologue=np.array([False, False, False, True, False]),
        left_out=(),
        seconds=1.0,
        templates=4,
        snr=None,
    ).at_rate(0.05)
    assert (named["recall"], named["precision"]) == pytest.approx((2 / 3, 2 / 4))
    assert named["precision_without_homologue"] == pytest.approx(2 / 3)
    assert named["fdr_stated"] == pytest.approx((0 + 0.1 + 0.2 + 0.1) / 4)


@pytest.mark.parametrize(
    "experiment", [third_party, third_party_tomograms, limits, second_round, spheres]
)
def test_without_data_it_says_what_is_missing(experiment: object, tmp_path: Path) -> None:
    setting = Setting(SMOKE, None, tmp_path / "store", tmp_path / "out")
    with pytest.raises(InputError, match=r"--data|no set|no cubes"):
        experiment.run(setting)  # type: ignore[attr-defined]


def test_the_truth_is_that_of_the_named_structures(tmp_path: Path) -> None:
    lines = ["name,kind,x", "gold,gold,1", "a,wanted,2", "b,distractor,3", "b,distractor,4"]
    (tmp_path / "truth.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    np.savez(tmp_path / "label.npz", label=np.zeros(3))
    out = tmp_path / "out"
    out.mkdir()
    assert third_party_tomograms.named_truth(tmp_path, ("b", "absent"), out) == 2
    kinds = [row["kind"] for row in read_table(out / "truth.csv")]
    assert kinds == ["gold", "distractor", "wanted", "wanted"]
    assert (out / "label.npz").is_file()


@pytest.mark.slow
def test_a_set_on_disk_is_labelled(tmp_path: Path, one_thread: None, quick_screens: None) -> None:
    config = SimulationConfig(
        classes={"tric": "tric", "null": "null"},
        acquisition=Acquisition(name="set", defocus_um=8),
        per_class=9,
        snr=0.1,
        box=24,
        voxel_size_A=15.0,
        resolution_A=15.0,
        seed=7,
    )
    simulate_set(config, tmp_path / "made")
    data = open_set(tmp_path / "made")
    folder = tmp_path / "set"
    folder.mkdir()
    cubes = data.source.read(range(len(data))).numpy()
    write_mrc(folder / "cubes.mrc", cubes.reshape(-1, 24, 24), voxel_size_A=15.0)
    (folder / "classes.json").write_text(json.dumps({"tric": "4v8r.cif.gz", "null": None}))
    with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "label"])
        writer.writerows([i, data.class_names[label]] for i, label in enumerate(data.labels))
    stated = StatedRecording(tilt_range_deg=(-60.0, 60.0), defocus_um=8.0)
    found = judge_set(folder, tmp_path, recording=stated, instead={"tric": "tric"})
    assert found.right.mean() > 0.9
    assert list(found.truth) == [data.class_names[label] for label in data.labels]
