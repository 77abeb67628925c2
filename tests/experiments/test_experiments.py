"""Every experiment at the smoke scale, and what each refuses before work starts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from grids import run_tasks

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError, InputError, MismatchError, OutputError
from tomadapt.experiments import (
    EXPERIMENTS,
    alignment,
    augmentation,
    decoys,
    figure3,
    figure4,
    figure7,
    figure8,
    figure9,
    limits,
    planted,
    projects,
    projects_killed,
    projects_workers,
    recovery,
    ribosomes,
    second_round,
    spheres,
    streaming,
    student,
    student_scale,
    table1,
    table2,
    third_party,
    third_party_networks,
    third_party_students,
    third_party_tomograms,
)
from tomadapt.experiments.domains import Cell, PaperDomains
from tomadapt.experiments.experimental import SETS
from tomadapt.experiments.models import AdaptTask
from tomadapt.experiments.particles import LabelledFolder
from tomadapt.experiments.records import read_rows
from tomadapt.experiments.scales import REDUCED, SMOKE, Setting
from tomadapt.inputs.particles import ArrayVolumes

NOTE = "proves the plumbing only"
SMALL_SETS = tuple(
    replace(one, box=24, voxel_size_A=one.voxel_size_A * one.box / 24) for one in SETS
)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Setting:
    folder = tmp_path_factory.mktemp("experiments")
    return Setting(SMOKE, None, folder / "runs", folder / "results")


def test_every_experiment_is_a_module_that_names_its_outputs():
    modules = (table1, table2, figure3, figure4, figure7, figure8, figure9, augmentation)
    modules += (alignment, recovery, student, third_party, third_party_tomograms)
    modules += (
        third_party_networks,
        third_party_students,
        student_scale,
        streaming,
        second_round,
        spheres,
        limits,
        planted,
        projects,
        projects_workers,
        projects_killed,
        ribosomes,
    )
    assert [m.__name__.rpartition(".")[2] for m in modules] == list(EXPERIMENTS)
    assert all(callable(module.run) for module in modules)


class TestTable1:
    def test_some_cells_then_more_and_the_first_stay(self, setting):
        table1.run(setting, only=(Cell(0.1, 0.1),), methods=("source_only", "ada"))
        path = setting.file("table1.jsonl")
        first = read_rows(path)
        assert [(r["method"], r["seed"]) for r in first] == [
            ("source_only", 0), ("ada", 0), ("source_only", 1), ("ada", 1),
        ]  # fmt: skip
        wanted = {"source_snr", "target_snr", "method", "seed", "accuracy", "held_out_accuracy"}
        wanted |= {"n_per_class", "epochs", "commit", "versions", "seconds"}
        assert all(wanted <= row.keys() for row in first)
        assert all(0 <= row["accuracy"] <= 1 for row in first)
        both = (Cell(0.1, 0.1), Cell(1000.0, 0.1))
        table1.run(setting, only=both, methods=("ie", "sc", "oracle"))
        rows = read_rows(path)
        assert [row for row in rows if row in first] == first
        assert {(r["source_snr"], r["method"]) for r in rows} == {
            (0.1, "source_only"), (0.1, "ada"), (0.1, "ie"), (0.1, "sc"), (0.1, "oracle"),
            (1000.0, "ie"), (1000.0, "sc"), (1000.0, "oracle"),
        }  # fmt: skip
        oracles = {(r["seed"], r["run"]) for r in rows if r["method"] == "oracle"}
        assert len(oracles) == 2  # one a seed, whatever the source

    def test_table_is_made_from_records_alone(self, setting, tmp_path):
        elsewhere = Setting(SMOKE, None, tmp_path / "nothing", tmp_path)
        elsewhere.out.joinpath("table1_smoke.jsonl").write_text(
            setting.file("table1.jsonl").read_text()
        )
        table1.write_table(elsewhere)
        written = elsewhere.file("table1.md").read_text()
        assert written == setting.file("table1.md").read_text()
        assert NOTE in written
        assert not (tmp_path / "nothing").exists()

    def test_unknown_cell_and_method(self, setting):
        for text in ("0.2:0.1", "0.1", "a:b"):
            with pytest.raises(ConfigError, match=rf"no cell '{text}' at scale smoke.*1000, 0.1"):
                table1.parse_cells(SMOKE, [text])
        assert table1.parse_cells(SMOKE, ["1e3:0.10"]) == (Cell(1000.0, 0.1),)

    def test_a_seed_that_a_cell_does_not_have(self, tmp_path):
        """Regression: nothing was run, and then a variable was not bound."""
        few = replace(REDUCED, builtin=True)
        setting = Setting(few, None, tmp_path / "runs", tmp_path / "results")
        with pytest.raises(ConfigError, match=r"none of these cells has such a seed.*got 1"):
            table1.run(setting, only=(Cell(0.5, 0.1),), seeds=(1,))
        with pytest.raises(ConfigError, match=r"unknown method 'dann'.*ada_paper_recipe, oracle"):
            table1.run(setting, methods=("dann",))

    def test_cells_of_the_reduced_scale(self):
        cells = list(table1.cells(REDUCED))
        assert len([c for c in cells if c.seed == 0]) == 25
        assert len([c for c in cells if c.seed == 2]) == 7  # five diagonal, two more corners
        assert len(cells) == len(set(cells)) == 25 + 2 * 7

    def test_structures_are_missing(self, tmp_path):
        (tmp_path / "data").mkdir()
        setting = Setting(REDUCED, tmp_path / "data", tmp_path / "runs", tmp_path / "results")
        with pytest.raises(InputError, match=r"lacks structures.*1kp8 .*2rec .*Remedy"):
            table1.run(setting)
        assert not (tmp_path / "runs").exists()
        assert not (tmp_path / "results").exists()


class TestOthers:
    def test_augmentation(self, setting):
        augmentation.run(setting)
        rows = read_rows(setting.file("augmentation.jsonl"))
        assert len(rows) == 2 * 2 * 3
        text = setting.file("augmentation.md").read_text()
        assert NOTE in text
        assert "| without | ada | " in text

    def test_table2_is_called_a_stand_in(self, setting, monkeypatch):
        monkeypatch.setattr(table2, "SETS", SMALL_SETS)
        table2.run(setting)
        assert not setting.file("table2.jsonl").exists()
        rows = read_rows(setting.file("table2_stand_in.jsonl"))
        assert {row["set"] for row in rows} == {f"S_e{i}, stand-in" for i in (1, 2, 3)}
        text = setting.file("table2_stand_in.md").read_text()
        assert text.startswith("# Table 2, stand-in\n")
        assert NOTE in text
        assert text.count("stand-in") >= 10

    def test_real_volumes_take_their_set_s_place_and_stand_ins_stay(
        self, setting, tmp_path, monkeypatch
    ):
        """Regression: the second command was refused half way, by its own earlier records."""
        monkeypatch.setattr(table2, "SETS", SMALL_SETS)
        before = read_rows(setting.file("table2_stand_in.jsonl"))
        expected = SMALL_SETS[2]
        for name in expected.complexes:
            write_cubes(tmp_path / expected.name, name, 2, expected.box, expected.voxel_size_A)
        written = table2.run(replace(setting, data=tmp_path, contrast="positive"))
        names = {path.name for path in written}
        assert names == {
            "table2_smoke.jsonl", "table2_smoke.md",
            "table2_stand_in_smoke.jsonl", "table2_stand_in_smoke.md",
        }  # fmt: skip
        assert {row["set"] for row in read_rows(setting.file("table2.jsonl"))} == {"S_e3"}
        assert read_rows(setting.file("table2_stand_in.jsonl")) == before
        for path in (setting.file("table2.md"), setting.file("table2_stand_in.md")):
            path.unlink()
        assert set(table2.write_table(setting)) == set(written)
        assert "stand-in" not in setting.file("table2.md").read_text()

    def test_records_of_another_experiment_make_no_table(self, setting, tmp_path):
        other = Setting(SMOKE, None, setting.store, tmp_path)
        rows = setting.file("augmentation.jsonl").read_text()
        other.file("table1.jsonl").write_text(rows)
        with pytest.raises(InputError, match="expected table1; got augmentation"):
            table1.write_table(other)

    def test_figure3_says_its_snrs(self):
        image = np.zeros((4, 4), np.float32)
        figure = figure3.draw({"a": [image] * 2}, ["SNR 7", "SNR 8"], "note")
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["SNR 7", "SNR 8"]

    def test_figures(self, setting):
        for module in (figure3, figure4, figure8):
            for path in module.run(setting):
                assert path.stat().st_size > 300
        with np.load(setting.file("figure8.npz")) as kept:
            n = 3 * (SMOKE.per_class + SMOKE.held_out_per_class)
            assert kept["features_before"].shape == kept["features_after"].shape == (n, 128)
            assert str(kept["novel"]) in kept["class_names"]
        assert NOTE in setting.file("figure8.md").read_text()

    def test_the_left_out_class_is_in_neither_training_nor_adaptation(self, setting):
        task = PaperDomains(SMOKE, SMOKE.classes(None)).adapted(
            Cell(1000.0, 0.1), "ada", without=("ribosome_70s",)
        )
        assert task.model(setting.store).card.class_names == ("apoferritin", "null")
        seen, held_out = task.target.open(setting.store)
        assert (len(seen), len(held_out)) == (2 * SMOKE.per_class, 2 * SMOKE.held_out_per_class)

    @pytest.mark.slow
    def test_planted(self, setting, monkeypatch):
        monkeypatch.setitem(planted.SIZES, "smoke", (48, 4, 2, 6, (0.1,)))
        planted.run(setting)
        (row,) = read_rows(setting.file("planted.jsonl"))
        assert row["n_planted"] == 4 + 6 + 4 + 8
        assert row["recall"] > 0.3  # two epochs teach little; that picks are where particles are
        assert row["precision"] > 0.5
        assert 0 <= row["labels_right"] <= 1

    def test_ribosomes_need_their_file(self, setting):
        with pytest.raises(InputError, match=r"real ribosomes are not at hand.*--data"):
            ribosomes.run(setting)

    @pytest.mark.data
    def test_ribosomes(self, setting, data_folder):
        with_data = Setting(SMOKE, data_folder, setting.store, setting.out)
        ribosomes.run(with_data)
        rows = read_rows(setting.file("ribosomes.jsonl"))
        assert len(rows) == 3 * 4
        for row in rows:
            if row["particles"] == "real ribosomes":
                assert row["n"] == 40
                assert row["auc_of_first"] == 0.5


def write_cubes(folder: Path, name: str, n: int, box: int, voxel_size_A: float) -> None:
    rng = np.random.default_rng(0)
    (folder / name).mkdir(parents=True)
    for i in range(n):
        with mrcfile.new(folder / name / f"{i}.mrc") as file:
            file.set_data(rng.normal(size=(box,) * 3).astype(np.float32))
            file.voxel_size = voxel_size_A


class TestRealVolumes:
    def test_they_take_the_place_of_the_stand_in(self, tmp_path):
        expected = SETS[2]
        for name in expected.complexes:
            write_cubes(tmp_path / expected.name, name, 2, expected.box, expected.voxel_size_A)
        target = expected.real(SMOKE, tmp_path)
        assert isinstance(target, LabelledFolder)
        data, held_out = target.open(tmp_path)
        assert held_out is None
        assert data.class_names == ("hemagglutinin", "apoferritin", "insulin_receptor")
        assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]

    def test_other_content_is_another_target(self, tmp_path):
        """Regression: particles that were added or relabelled were not noticed."""
        keys = []
        for folder, box in (("one", 24), ("same", 24), ("other", 26)):
            write_cubes(tmp_path / folder, "apoferritin", 2, box, 16.0)
            real = LabelledFolder(path=tmp_path / folder, classes=("apoferritin",)).read()
            keys.append(real.model_dump_json(context="key"))
        assert keys[0] == keys[1] != keys[2]

    @pytest.mark.parametrize(
        ("box", "voxel_size_A", "named"),
        [(30, 16.0, r"box.*24 voxels.*30 voxels"), (24, 12.0, r"voxel size.*16 Å.*12 Å")],
    )
    def test_another_box_or_voxel_size(self, tmp_path, box, voxel_size_A, named):
        batches = PaperDomains(SMOKE, SMOKE.classes(None))
        for name in batches.classes:
            write_cubes(tmp_path / "real", name, 2, box, voxel_size_A)
        real = LabelledFolder(path=tmp_path / "real", classes=tuple(batches.classes)).read()
        task = AdaptTask(
            method="target_statistics",
            source_model=batches.source_model(Cell(0.1, 0.1)),
            target=real,
        )
        with pytest.raises(MismatchError, match=named):
            list(run_tasks([task], tmp_path / "runs"))
        assert not (tmp_path / "runs").exists()  # before any work


class TestRefused:
    def test_options_of_another_method(self):
        batches = PaperDomains(SMOKE, SMOKE.classes(None))
        with pytest.raises(ConfigError, match=r"not those of method 'ie'.*ImportanceOptions"):
            AdaptTask(
                method="ie",
                source_model=batches.source_model(Cell(0.1, 0.1)),
                target=batches.target(Cell(0.1, 0.1)),
                options=SMOKE.ada,
            )

    def test_a_structure_that_cannot_be_read(self, tmp_path):
        (tmp_path / "1abc.pdb").write_text("nothing")
        batches = PaperDomains(SMOKE, {"1abc": str(tmp_path / "1abc.pdb"), "null": "null"})
        with pytest.raises(InputError, match="1abc"):
            list(run_tasks([batches.source_model(Cell(0.1, 0.1))], tmp_path / "runs"))
        assert not (tmp_path / "runs").exists()

    def test_records_of_another_configuration_are_kept(self, setting, tmp_path):
        """Regression: rows of another grid vanished from the file without a word."""
        other = Setting(SMOKE, None, setting.store, tmp_path)
        row = {"scale": "smoke", "run": "adapt-of-another-grid", "method": "ada"}
        other.file("table1.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(OutputError, match=r"1 records of another.*adapt-of-another-grid"):
            table1.run(other, only=(Cell(0.1, 0.1),), methods=("source_only",))
        assert json.loads(other.file("table1.jsonl").read_text()) == row


class TestMeasures:
    def test_neighbour_purity(self):
        """Two clusters of four: with k = 3 all neighbours are of one's own, mixed they are not."""
        points = np.repeat([[0.0, 0.0], [9.0, 9.0]], 4, axis=0) + np.arange(8)[:, None] * 0.01
        member = np.arange(8) < 4
        assert figure8.neighbour_purity(points, member, k=3) == 1.0
        assert figure8.neighbour_purity(points, np.arange(8) % 2 == 0, k=3) == pytest.approx(1 / 3)

    def test_identical_features_do_not_count_themselves(self):
        member = np.arange(8) < 4
        assert figure8.neighbour_purity(np.zeros((8, 2)), member, k=7) == pytest.approx(3 / 7)

    def test_phase_randomised_keeps_amplitudes_and_destroys_structure(self):
        z, y, x = np.mgrid[-12:12, -12:12, -12:12]
        blob = np.exp(-((z - 3) ** 2 + y**2 + x**2) / 8)[None].astype(np.float32)
        data = Subtomograms(ArrayVolumes(blob, 16.0))
        decoy = decoys.phase_randomised(data, seed=0)
        one, other = (d.read([0]).numpy()[0] for d in (data, decoy))
        np.testing.assert_allclose(
            np.abs(np.fft.fftn(other)), np.abs(np.fft.fftn(one)), rtol=1e-3, atol=0.05
        )
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


def test_task_files_can_be_read_back(setting):
    paths = list(setting.store.glob("adapt-*/task.json"))
    assert len(paths) > 20
    for path in paths:
        assert AdaptTask.model_validate(json.loads(path.read_text())).key == path.parent.name


@pytest.fixture
def first_references_at_once(monkeypatch):
    """One iteration from random poses, not twelve."""
    monkeypatch.setattr("tomadapt.recover.initial_model.ITERATIONS", 1)


class TestRecovery:
    @pytest.mark.usefixtures("first_references_at_once")
    def test_figure7_averages_by_three_sets_of_labels(self, setting):
        records, table, picture = figure7.run(setting)
        rows = read_rows(records)
        assert {row["labels"] for row in rows} == {"before", "after", "truth"}
        for labels in ("before", "after", "truth"):
            assert sum(row["particles"] for row in rows if row["labels"] == labels) == 18
        assert all(row["right"] == row["particles"] for row in rows if row["labels"] == "truth")
        assert "stand-in" in table.read_text()
        assert NOTE in table.read_text()
        assert picture.stat().st_size > 10_000

    @pytest.mark.usefixtures("first_references_at_once")
    def test_figure9_counts_an_unseen_class(self, setting):
        records, table = figure9.run(setting)
        rows = read_rows(records)
        assert [(row["seed"], row["when"]) for row in rows] == [
            (0, "before"), (0, "after"), (1, "before"), (1, "after"),
        ]  # fmt: skip
        assert all(0 <= row["auroc_neighbours"] <= 1 for row in rows)
        # Whoever discovers has no labels of the target; every cluster is held to the truth after.
        for row in rows:
            assert sum(one["particles"] for one in row["found"]) == row["n"]
            assert set(row["best_nm"]) == {"ribosome_70s", "apoferritin"}
            # Four particles or more of a class that has a structure: then there is a map.
            mapped = [one for one in row["found"] if one["discrepancy_nm"] is not None]
            assert len(mapped) == sum(
                one["particles"] >= 4 and one["majority"] != "null" for one in row["found"]
            )
        assert "(never seen)" in table.read_text()
        assert "(5.42" not in table.read_text()  # the paper's stand beside no plumbing

    def test_planted_poses_where_no_other_program_is(self, setting, monkeypatch):
        monkeypatch.setattr(alignment, "by_acryo", lambda *_, **__: None)
        monkeypatch.setattr(alignment, "by_relion", lambda *_, **__: None)
        records, _ = alignment.run(setting)
        rows = read_rows(records)
        assert [row["installed"] for row in rows] == [True, False, False] * 2
        assert all(row["median_deg"] <= 6 for row in rows if row["installed"])

    @pytest.mark.usefixtures("quick_first_references")
    def test_structures_from_random_poses(self, setting):
        rows = read_rows(recovery.run(setting)[0])
        assert len(rows) == 3
        assert all(row["discrepancy_nm"] < 10 for row in rows)
