"""Labels of particles from files."""

import numpy as np
import pytest

from tomadapt.errors import InputError, MismatchError
from tomadapt.recover.labels import classified_particles, read_labels


def star(path, columns):
    rows = zip(*columns.values(), strict=True)
    lines = ["data_particles", "", "loop_", *(f"_{name}" for name in columns)]
    path.write_text("\n".join([*lines, *(" ".join(row) for row in rows), ""]))
    return path


def test_labels_of_predict(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("index,label,probability\n0,a,0.9\n1,b,0.8\n")
    assert read_labels(path, 2) == ["a", "b"]
    np.savez(tmp_path / "l.npz", class_names=np.array(["a", "b"]), labels=np.array([1, 0]))
    assert read_labels(tmp_path / "l.npz", 2) == ["b", "a"]


def test_labels_of_a_star_file(tmp_path):
    path = star(tmp_path / "p.star", {"tomadaptClassName": ["a", "b", "a"]})
    assert read_labels(path, 3) == ["a", "b", "a"]


def test_a_classified_file_names_its_subtomograms(tmp_path):
    (tmp_path / "subtomograms").mkdir()
    columns = {"tomadaptClassName": ["a", "b"], "tomadaptSubtomogram": ["3", "1"]}
    folder, rows, names = classified_particles(star(tmp_path / "p.star", columns))
    assert (folder, rows, names) == (tmp_path / "subtomograms", [2, 0], ["a", "b"])


def test_another_number_of_labels_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("index,label\n0,a\n1,b\n")
    with pytest.raises(MismatchError, match="expected 3 labels; got 2"):
        read_labels(path, 3)


@pytest.mark.parametrize("text", ["", "index,class\n0,a\n", "index,label\n1,a\n0,b\n"])
def test_files_of_something_else_are_refused(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"cannot be used|an empty file"):
        read_labels(path, 2)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    (tmp_path / "l.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="cannot be used"):
        read_labels(tmp_path / "l.npz", 2)
    plain = star(tmp_path / "p.star", {"rlnCoordinateX": ["1"]})
    with pytest.raises(InputError, match="says no tomadaptClassName"):
        read_labels(plain, 1)
    with pytest.raises(InputError, match="no tomadapt"):
        classified_particles(plain)
    alone = {"tomadaptClassName": ["a"], "tomadaptSubtomogram": ["1"]}
    with pytest.raises(InputError, match="not beside it"):
        classified_particles(star(tmp_path / "q.star", alone))
    (tmp_path / "subtomograms").mkdir()
    odd = {"tomadaptClassName": ["a"], "tomadaptSubtomogram": ["x"]}
    with pytest.raises(InputError, match="whole numbers"):
        classified_particles(star(tmp_path / "r.star", odd))


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_regression_a_spreadsheet_sorted_the_labels(tmp_path, mark):
    """Its byte-order mark hid the index, so the order was not looked at (orange3 #7000)."""
    path = tmp_path / "labels.csv"
    path.write_text(f"{mark}index,label\n1,a\n0,b\n", encoding="utf-8")
    with pytest.raises(InputError, match="in the order of the particles"):
        read_labels(path, 2)
    path.write_text(f"{mark}index,label\n0,b\n1,a\n", encoding="utf-8")
    assert read_labels(path, 2) == ["b", "a"]


def test_rows_of_a_star_file_are_those_cubes_that_they_say(tmp_path):
    columns = {"tomadaptClassName": ["a", "b", "c"], "tomadaptSubtomogram": ["3", "1", "2"]}
    assert read_labels(star(tmp_path / "p.star", columns), 3) == ["b", "c", "a"]
    columns["tomadaptSubtomogram"] = ["3", "1", "3"]
    with pytest.raises(InputError, match="every cube once"):
        read_labels(star(tmp_path / "q.star", columns), 3)
