"""Tables are made of records only, and quote the paper rightly."""

from __future__ import annotations

import itertools

import pytest

from tomadapt.errors import InputError
from tomadapt.experiments.grid_table import RIVALS, grid_table, wins
from tomadapt.experiments.tables import (
    markdown,
    mean_sd,
    paper_values,
    read_rows,
    select,
    write_rows,
)

SNRS = [1000, 0.5, 0.1, 0.05, 0.03]


def row(source, target, method, accuracy, seed=0, **more):
    return {
        "scale": "smoke", "source_snr": source, "target_snr": target, "method": method,
        "seed": seed, "accuracy": accuracy, "held_out_accuracy": accuracy, "warning": None,
        "commit": "c0ffee", **more,
    }  # fmt: skip


class TestPaperValues:
    def test_3d_ada_wins_24_of_25(self):
        table = paper_values()["table1"]
        won = [
            table["ada"][f"{s:g}"][i] > max(table[m][f"{s:g}"][i] for m in RIVALS)
            for s, i in itertools.product(SNRS, range(5))
        ]
        assert sum(won) == 24

    def test_table_2_after_is_above_before(self):
        table = paper_values()["table2"]
        assert table["snrs"] == SNRS
        for name, before in table["source_only"].items():
            assert all(b < a for b, a in zip(before, table["ada"][name], strict=True))

    @pytest.mark.data
    def test_figures_stand_in_the_papers_text(self, data_folder):
        paper = data_folder.parent / "paper.txt"
        if not paper.exists():
            pytest.skip(f"no text of the paper at {paper}")
        lines = [line.split() for line in paper.read_text().splitlines()]
        table = paper_values()["table1"]
        rows = [table[m][f"{s:g}"] for s in SNRS for m in (*RIVALS, "ada")]
        start = next(i for i, line in enumerate(lines) if "0.855" in line)
        for found, ours in zip(lines[start : start + 20], rows, strict=True):
            assert [float(x) for x in found[-5:]] == ours


class TestMeanSd:
    def test_hand_computed(self):
        assert mean_sd([0.5, 0.7]) == "0.600 ± 0.141"
        assert mean_sd([0.25]) == "0.250"
        assert mean_sd([]) == "–"


class TestRows:
    def test_round_trip(self, tmp_path):
        rows = [row(0.1, 0.1, "ada", 0.9), row(0.1, 0.1, "sc", 0.8)]
        write_rows(tmp_path / "rows.jsonl", rows)
        assert read_rows(tmp_path / "rows.jsonl") == rows

    def test_damaged_line_is_named(self, tmp_path):
        (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a":\n')
        with pytest.raises(InputError, match=r"line 2 of .*rows\.jsonl"):
            read_rows(tmp_path / "rows.jsonl")

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="no records"):
            read_rows(tmp_path / "rows.jsonl")

    def test_select(self):
        rows = [{"m": "a", "x": 1.0}, {"m": "b", "x": 2.0}, {"m": "a", "x": None}]
        assert select(rows, "x", m="a") == [1.0]

    def test_markdown(self):
        assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n"


class TestWins:
    def test_mean_over_seeds_against_the_best_rival(self):
        rows = [row(0.1, 0.1, m, 0.5) for m in RIVALS]
        rows += [row(0.1, 0.1, "ada", 0.4), row(0.1, 0.1, "ada", 0.6, seed=1)]
        assert wins(rows, "accuracy") == (["0.1 → 0.1"], [])
        rows.append(row(0.1, 0.1, "sc", 0.52, seed=1))
        assert wins(rows, "accuracy") == ([], ["0.1 → 0.1"])

    def test_a_cell_that_lacks_a_method_is_not_counted(self):
        assert wins([row(0.1, 0.1, "ada", 0.9)], "accuracy") == ([], [])


class TestGridTable:
    def test_ours_beside_the_papers(self):
        rows = [row(1000.0, 0.5, m, 0.25) for m in RIVALS]
        rows += [row(1000.0, 0.5, "ada", 0.75, warning="it collapsed")]
        rows += [row(1000.0, 0.5, "oracle", 0.99)]
        text = grid_table(rows)
        assert "| 1000 | ada | 0.750 (0.923) |" in text
        assert "in 1 of 1 cells" in text
        assert "proves the plumbing only" in text
        assert "it collapsed" in text
        # The oracle was trained on the transductive particles: only held-out ones tell anything.
        assert text.count("| oracle | 0.990 |") == 1
