"""STAR files: nothing of what is not edited changes, and damage is named by line and column."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomadapt.errors import ConfigError, InputError, OutputError
from tomadapt.io.particle_lists import read_particles
from tomadapt.io.star import (
    MAX_COLUMNS,
    StarDocument,
    StarTable,
    files,
    loop_of,
    parse_star,
    read_star,
    read_text,
    star_value,
    write_star_document,
)

RELION = (
    "\n# version 30001\n\ndata_optics\n\nloop_ \n_rlnOpticsGroup #1 \n_rlnOpticsGroupName #2 \n"
    "           1 opticsGroup1 \n \n\n# version 30001\n\ndata_particles\n\nloop_ \n"
    "_rlnTomoName #1 \n_rlnCoordinateX #2 \n_myOwn #3 \n"
    "  007   12.500000 'two words' \n  TS_01 1e2 \"\" # why\n\n"
)

values = st.one_of(
    st.sampled_from(["007", "0.50", "[0,1,1]", "data_1/x.mrc", "$x", "it's", "a#b", "''", '"a b"']),
    st.floats(allow_nan=False).map(str),
    st.text("abcXYZ019._-/é", min_size=1, max_size=8).map(lambda text: text.lstrip("_") or "0"),
)
labels = st.lists(
    st.text("abcdefgXYZ019_", min_size=1, max_size=9), min_size=1, max_size=4, unique=True
)
noise = st.sampled_from(["", " ", "# comment", "  # 'open quote", "\t"])


@st.composite
def loops(draw: st.DrawFn) -> list[str]:
    names = draw(labels)
    tail = draw(st.sampled_from(["", " ", "  # x"]))
    numbered = draw(st.booleans())
    lines = ["loop_" + draw(st.sampled_from(["", " "]))]
    lines += [f"_{name}{f' #{n}' if numbered else ''}{tail}" for n, name in enumerate(names, 1)]
    rows = draw(st.integers(0, 3))
    for _ in range(rows):
        lines += draw(st.lists(noise, max_size=1))
        gaps = draw(st.sampled_from([" ", "   ", "\t"]))
        row = [draw(values) for _ in names]
        if len(row) == 1 and row[0].startswith("data_"):
            row = ["x"]
        lines.append(draw(st.sampled_from(["", "  "])) + gaps.join(row) + tail)
    return lines


@st.composite
def pairs(draw: st.DrawFn) -> list[str]:
    lines = []
    for name in draw(labels):
        lines += draw(st.lists(noise, max_size=1))
        lines.append(f"_{name}   {draw(values)}")
    return lines


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = draw(st.lists(noise, max_size=2))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(["", "optics", "particles", "T.S_01", "1"]))
        lines += [f"data_{name}", *draw(st.lists(noise, max_size=2))]
        lines += draw(st.one_of(st.just([]), loops(), pairs()))
        lines += draw(st.lists(noise, max_size=2))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return (
        draw(st.sampled_from(["", "\ufeff"])) + end.join(lines) + draw(st.sampled_from(["", end]))
    )


class TestRoundTrip:
    @settings(max_examples=200, deadline=None)
    @given(documents())
    def test_any_document(self, text: str) -> None:
        assert parse_star(text).text() == text

    @settings(max_examples=100, deadline=None)
    @given(documents(), st.text(st.characters(codec="ascii", exclude_categories=["C"])))
    def test_added_column_leaves_the_rest(self, text: str, value: str) -> None:
        document = parse_star(text)
        for table in document.tables:
            if "'" in value and '"' in value:
                value = value.replace("'", "")
            edited = table.with_columns({"tomadaptScore": [value] * len(table)})
            again = parse_star(document.replaced(table, edited).text())
            new = again.tables[document.tables.index(table)]
            assert new.labels == (*table.labels, "tomadaptScore")
            assert new.column("tomadaptScore") == (value,) * len(table)
            for label in table.labels:
                assert new.column(label) == table.column(label)
            others = [t for t in document.tables if t is not table]
            assert [(t.head, t.body) for t in others] == [
                (t.head, t.body) for n, t in enumerate(again.tables) if t is not new
            ]

    def test_file(self, tmp_path: Path) -> None:
        path = tmp_path / "in.star"
        for text in (RELION, RELION.replace("\n", "\r\n"), RELION.rstrip()):
            path.write_bytes(text.encode())
            write_star_document(tmp_path / "out.star", read_star(path))
            assert (tmp_path / "out.star").read_bytes() == text.encode()

    @pytest.mark.data
    def test_real_files(self, data_folder: Path, tmp_path: Path) -> None:
        files = sorted((data_folder / "real_ribosomes").glob("*.star"))
        assert len(files) == 3
        for file in files:
            write_star_document(tmp_path / "out.star", read_star(file))
            assert (tmp_path / "out.star").read_bytes() == file.read_bytes()


class TestTables:
    def test_values_are_as_written(self) -> None:
        table = parse_star(RELION).table("particles")
        assert table is not None
        assert table.column("rlnTomoName") == ("007", "TS_01")
        assert table.column("rlnCoordinateX") == ("12.500000", "1e2")
        assert table.column("myOwn") == ("two words", "")
        assert RELION.split("\n")[table.line_of(1) - 1].split(maxsplit=1)[0] == "TS_01"
        assert "rlnTomoName" in table
        assert "nothing" not in table

    def test_pairs(self) -> None:
        text = "data_general\n\n_rlnA   001\n# note\n_rlnB 'x y' # end\n\ndata_b\n_c 1\n"
        document = parse_star(text)
        table = document.tables[0]
        assert (len(table), table.is_loop) == (1, False)
        assert table.column("rlnB") == ("x y",)
        edited = table.with_columns({"rlnA": ["2"], "new": ["a b"]})
        assert document.replaced(table, edited).text() == (
            "data_general\n\n_rlnA   2\n# note\n_rlnB 'x y' # end\n_new   \"a b\"\n\ndata_b\n_c 1\n"
        )

    def test_exchanged_in_place_and_added(self) -> None:
        document = parse_star(RELION)
        table = document.tables[1]
        edited = table.with_columns({"rlnCoordinateX": ["1", "2"], "new": ["x", "y z"]})
        text = document.replaced(table, edited).text()
        assert "_myOwn #3 \n_new #4 \n" in text
        assert "  007   1 'two words'  x \n" in text
        assert '  TS_01 2 ""  "y z" # why\n' in text
        assert text.startswith(RELION[: RELION.index("data_particles")])

    def test_take(self) -> None:
        document = parse_star(RELION)
        table = document.tables[1]
        assert table.take([0, 1]) is table
        assert table.take([1]).column("rlnTomoName") == ("TS_01",)
        assert table.take([1, 0]).column("rlnTomoName") == ("TS_01", "007")
        none = parse_star(document.replaced(table, table.take([])).text()).table("particles")
        assert none is not None
        assert (len(none), none.labels) == (0, table.labels)
        single = parse_star("data_\n_a 1\n_b 2\n").tables[0]
        assert len(single.take([])) == 0
        assert single.as_loop().column("b") == ("2",)

    @pytest.mark.parametrize("rows", [[1, 0], [1], [0], []])
    def test_crlf_and_a_last_line_without_end(self, rows: list[int]) -> None:
        """Regression: a row that was the file's last one lacked its carriage return elsewhere."""
        document = parse_star("data_\r\nloop_\r\n_a\r\n# note\r\n1\r\n2")
        table = document.tables[0]
        edited = table.with_columns({"new": ["x", "y"]}).take(rows)
        lines = document.replaced(table, edited).text().split("\r\n")
        assert not any("\r" in line or "\n" in line for line in lines)
        assert lines[-1] == (f"{rows[-1] + 1}  {'xy'[rows[-1]]}" if rows else "_new")

    def test_crlf_and_a_last_label_without_end(self) -> None:
        document = parse_star("data_\r\nloop_\r\n_a #1")
        edited = document.tables[0].with_columns({"new": []})
        text = document.replaced(document.tables[0], edited).text()
        assert text == "data_\r\nloop_\r\n_a #1\r\n_new #2"

    def test_all_rows_of_none_change_nothing(self) -> None:
        """Regression: comments moved in a table without rows, of which none was left out."""
        table = parse_star("data_\nloop_\n_a\n# note\n").tables[0]
        assert table.take([]) is table

    def test_loop_after_pairs_and_repeated_blocks(self) -> None:
        text = "data_a\n_x 1\nloop_\n_y\n1\n2\n_z 3\ndata_a\nloop_\n_y\n\n4\n\n5\n"
        document = parse_star(text)
        assert [t.labels for t in document.tables] == [("x",), ("y",), ("z",), ("y",)]
        assert document.tables[3].column("y") == ("4", "5")
        assert document.text() == text

    def test_new_loop(self) -> None:
        table = loop_of("particles", {"a": ["1", "x y"], "b": ["", "data_x"]})
        again = parse_star(StarDocument(("data_particles", table)).text()).tables[0]
        assert again.column("a") == ("1", "x y")
        assert again.column("b") == ("", "data_x")
        assert isinstance(again, StarTable)

    def test_quotes_within_words(self) -> None:
        """Only a quote before a blank ends a value: one of either kind may stand within words."""
        values = ("'\" ", "it's 5\" wide", "a#b")
        table = loop_of("particles", {"a": values})
        again = parse_star(StarDocument(("data_particles", table)).text()).tables[0]
        assert again.column("a") == values

    def test_what_cannot_be_written(self, tmp_path: Path) -> None:
        table = parse_star(RELION).tables[1]
        for bad in ({"new": ["1"]}, {"a b": ["1", "2"]}, {"new": ["1", "a\nb"]}, {"": ["1", "2"]}):
            with pytest.raises(ConfigError):
                table.with_columns(bad)
        with pytest.raises(ConfigError, match="both kinds of quotes"):
            star_value("a' b\" c")
        with pytest.raises(OutputError):
            write_star_document(tmp_path / "no" / "x.star", parse_star(RELION))
        with pytest.raises(KeyError):
            table.column("nothing")


DAMAGED = {
    "no block": "_a 1\n",
    "text first": "hello\ndata_\n",
    "only comments": "# data_x\n",
    "value without label": "data_\n 1 2\n",
    "loop without labels": "data_\nloop_\n1 2\n",
    "loop at the end": "data_\nloop_\n",
    "short row": "data_\nloop_\n_a\n_b\n1 2\n3\n",
    "long row": "data_\nloop_\n_a\n_b\n1 2 3\n",
    "quote makes one of two": "data_\nloop_\n_a\n_b\n'1 2'\n",
    "open quote": "data_\nloop_\n_a\n_b\n1 '2\n",
    "open quote in pairs": 'data_\n_a "x\n',
    "label twice": "data_\nloop_\n_a\n_a\n1 2\n",
    "label twice in pairs": "data_\n_a 1\n_a 2\n",
    "pair without value": "data_\n_a\n",
    "pair with two": "data_\n_a 1 2\n",
    "empty label": "data_\nloop_\n_ \n1\n",
    "value after label": "data_\nloop_\n_a 1\n",
    "cif text": "data_\n_a\n;text\n;\n",
    "json": '{"points": []}',
    "xml": "<?xml version='1.0'?>\n<a/>\n",
    "save frame": "data_\nsave_x\n",
}


class TestDamage:
    @pytest.mark.parametrize("name", DAMAGED)
    def test_form(self, name: str) -> None:
        with pytest.raises(InputError) as error:
            parse_star(DAMAGED[name], name="file.star")
        assert "file.star" in str(error.value)
        if name != "only comments":
            assert "line" in str(error.value)

    def test_place(self) -> None:
        with pytest.raises(InputError, match=r"line 6, column 1.*expected 2.*got 1 values"):
            parse_star(DAMAGED["short row"])
        with pytest.raises(InputError, match=r"line 5, column 3.*open quote"):
            parse_star(DAMAGED["open quote"])

    @pytest.mark.parametrize(
        "content",
        [b"", b" \n\n", b"data_\n_a \xff\xfe\n", b"data_\n_a \0\n", bytes(range(256)) * 9],
        ids=["empty", "blank", "latin", "zero", "binary"],
    )
    def test_bytes(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "x.star").write_bytes(content)
        with pytest.raises(InputError):
            read_star(tmp_path / "x.star")

    def test_place_of_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "x.star").write_bytes(b"data_\n_a \xff\n")
        with pytest.raises(InputError, match=r"UTF-8.*line 2, column 4"):
            read_star(tmp_path / "x.star")

    def test_no_regular_file(self, tmp_path: Path) -> None:
        (tmp_path / "loop.star").symlink_to(tmp_path / "loop.star")
        os.mkfifo(tmp_path / "pipe.star")
        for name in ("loop.star", "pipe.star", ".", "missing.star", "zero\0name"):
            with pytest.raises(InputError):
                read_text(tmp_path / name)
        with pytest.raises(InputError):
            read_text("/dev/zero")

    def test_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with (tmp_path / "x.star").open("wb") as file:
            file.truncate(10**12)  # sparse: takes no room on the disk
        start = time.process_time()
        with pytest.raises(InputError, match="at most 150 MB"):
            read_star(tmp_path / "x.star")
        assert time.process_time() - start < 1
        monkeypatch.setattr(files, "MAX_LINES", 3)
        (tmp_path / "y.star").write_text(RELION)
        with pytest.raises(InputError, match="at most 3 lines"):
            read_star(tmp_path / "y.star")

    def test_hostile_lines_take_no_time(self) -> None:
        start = time.process_time()
        for line in ("' " * 100_000, "'a" * 100_000, " " * 500_000 + "x", "_" * 300_000):
            with pytest.raises(InputError):
                parse_star(f"data_\nloop_\n_a\n_b\n_c\n{line}\n1 2\n")
        many = "\n".join(f"_l{n}" for n in range(MAX_COLUMNS + 1))
        with pytest.raises(InputError, match="too many labels"):
            parse_star(f"data_\nloop_\n{many}\n")
        assert time.process_time() - start < 5

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, len(RELION)), st.text(max_size=6), st.integers(0, 12))
    def test_any_mutation_is_read_or_refused(self, at: int, insert: str, cut: int) -> None:
        text = RELION[:at] + insert + RELION[at + cut :]
        with contextlib.suppress(InputError):
            assert parse_star(text).text() == text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_pairs_in_a_block_of_their_own(end: str) -> None:
    """What is there stays; a second time the value is exchanged."""
    text = end.join(["data_particles", "", "loop_", "_a #1", "x", ""])
    once = parse_star(text).with_pairs("tomadapt", {"tomadaptCubes": "12ab"})
    assert once.text().startswith(text.rstrip("\n"))
    assert once.text().count("\n") == once.text().count(end)
    read = parse_star(once.text()).table("tomadapt")
    assert read is not None
    assert read.column("tomadaptCubes") == ("12ab",)
    cut = parse_star(text.removesuffix(end)).with_pairs("tomadapt", {"tomadaptCubes": "12ab"})
    assert cut.text() == once.text()
    twice = parse_star(once.text()).with_pairs("tomadapt", {"tomadaptCubes": "34cd"})
    assert twice.text() == once.text().replace("12ab", "34cd")


def test_regression_keywords_in_capitals(tmp_path: Path) -> None:
    """DATA_ and LOOP_ were text before the first block; STAR's keywords have no case."""
    text = RELION.replace("data_", "DATA_").replace("loop_", "Loop_")
    document = parse_star(text)
    assert document.text() == text
    assert [table.block for table in document.tables] == ["optics", "particles"]
    assert document.tables[1].column("rlnTomoName") == ("007", "TS_01")
    assert star_value("LOOP_") != "LOOP_"
    rows = parse_star("data_a\nloop_\n_b\n_c\nDATA_1/x.mrc 2\nLoop_x 3\n")
    assert rows.tables[0].column("b") == ("DATA_1/x.mrc", "Loop_x")
    particles = tmp_path / "p.star"
    particles.write_text(
        "DATA_OPTICS\nLOOP_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 2.5\n"
        "DATA_PARTICLES\nLOOP_\n_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n"
        "_rlnCoordinateZ\n_rlnOpticsGroup\nTS_01 4 8 12 1\n"
    )
    assert read_particles(particles).coordinates_A.tolist() == [[10, 20, 30]]
