"""Plans and tables of the experiments on the judge's student."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tomadapt.errors import InputError
from tomadapt.experiments import student, third_party_networks, third_party_students
from tomadapt.experiments.judge_tasks import JudgeTask, StudentTask
from tomadapt.experiments.scales import SMOKE, Setting


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(SMOKE, None, tmp_path / "store", tmp_path / "out")


def test_every_target_is_judged_once_with_each_acquisition(setting: Setting) -> None:
    plan = list(student._plan(setting))
    assert len({task.key for task, _ in plan}) == len(plan) == 3 * len(SMOKE.snrs)
    for task, about in plan:
        if about["method"] == "student":
            assert isinstance(task, StudentTask)
            assert task.judge.target.snr == about["target_snr"]
            assert task.source.made.key != task.judge.target.made.key
        else:
            assert isinstance(task, JudgeTask)
            known = about["method"] == "likelihood"
            assert task.estimated != known
            acquisition = task.target.made.simulation.acquisition
            assert (task.stated == acquisition) == known


def test_the_table_has_adaptation_beside_it(setting: Setting) -> None:
    """Of 3D-ADA the worst and the best source, seeds averaged."""
    setting.out.mkdir()
    about = {"experiment": "table1", "method": "ada", "target_snr": 0.1}
    rows = [
        about | {"source_snr": 1000.0, "accuracy": 0.5, "held_out_accuracy": 0.4},
        about | {"source_snr": 0.1, "accuracy": 0.7, "held_out_accuracy": 0.6},
        about | {"source_snr": 0.1, "accuracy": 0.8, "held_out_accuracy": 0.7},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    setting.file("table1.jsonl").write_text(text)
    own = {"method": "likelihood", "target_snr": 0.1, "accuracy": 0.9, "held_out_accuracy": 0.95}
    table = student._table([own], setting)
    assert "| likelihood | 0.900 |" in table
    assert "| ada | 0.500 to 0.750 |" in table
    assert "| ada | 0.400 to 0.650 |" in table


@pytest.mark.parametrize("experiment", [third_party_networks, third_party_students])
def test_sets_that_others_made_are_needed(experiment: ModuleType, setting: Setting) -> None:
    with pytest.raises(InputError, match="no cubes that others made"):
        experiment.run(setting)
