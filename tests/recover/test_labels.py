"""Labels of particles from files."""

import numpy as np
import pytest

from tomadapt.data.cube_keys import key_of
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import InputError, MismatchError
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.io.extracted import cubes_digest
from tomadapt.learn.prediction import Prediction
from tomadapt.recover.labels import classified_particles, read_labels, require_same_cubes

NO_DIGEST = "ignore:.*does not say of which cubes its labels are"
pytestmark = pytest.mark.filterwarnings(NO_DIGEST)


def cubes(n, names=(), seed=0):
    volumes = np.random.default_rng(seed).normal(size=(n, 4, 4, 4)).astype(np.float32)
    return Subtomograms(ArrayVolumes(volumes, 10.0, names=tuple(names)))


def star(path, columns):
    rows = zip(*columns.values(), strict=True)
    lines = ["data_particles", "", "loop_", *(f"_{name}" for name in columns)]
    path.write_text("\n".join([*lines, *(" ".join(row) for row in rows), ""]))
    return path


def test_labels_of_predict(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("index,label,probability\n0,a,0.9\n1,b,0.8\n")
    assert read_labels(path, cubes(2)) == ["a", "b"]
    np.savez(tmp_path / "l.npz", class_names=np.array(["a", "b"]), labels=np.array([1, 0]))
    assert read_labels(tmp_path / "l.npz", cubes(2)) == ["b", "a"]


def test_labels_of_a_star_file(tmp_path):
    columns = {"tomadaptClassName": ["a", "b", "a"], "tomadaptSubtomogram": ["1", "2", "3"]}
    assert read_labels(star(tmp_path / "p.star", columns), cubes(3)) == ["a", "b", "a"]


def test_a_classified_file_names_its_subtomograms(tmp_path):
    (tmp_path / "subtomograms").mkdir()
    columns = {"tomadaptClassName": ["a", "b"], "tomadaptSubtomogram": ["3", "1"]}
    folder, rows, names = classified_particles(star(tmp_path / "p.star", columns))
    assert (folder, rows, names) == (tmp_path / "subtomograms", [2, 0], ["a", "b"])


@pytest.mark.parametrize("suffix", [".csv", ".star"])
def test_particles_that_nobody_named_are_classes_of_their_own(tmp_path, suffix):
    labels, kinds = ["a", "null", "null", "null"], ["wanted", "other", "unknown", "membrane"]
    path = tmp_path / f"labels{suffix}"
    if suffix == ".csv":
        rows = [f"{i},{a},{b}" for i, (a, b) in enumerate(zip(labels, kinds, strict=True))]
        path.write_text("\n".join(["index,label,kind", *rows, ""]))
    else:
        numbers = ["1", "2", "3", "4"]
        columns = {"tomadaptClassName": labels, "tomadaptSubtomogram": numbers}
        star(path, columns | {"tomadaptKind": kinds})
        (tmp_path / "subtomograms").mkdir()
        assert classified_particles(path)[2] == ["a", "other", "unknown", "null"]
    assert read_labels(path, cubes(4)) == ["a", "other", "unknown", "null"]


def test_regression_rows_without_a_cube_are_left_out(tmp_path):
    """A list of several tomograms has such rows in rejected.star, and `average` refused it."""
    (tmp_path / "subtomograms").mkdir()
    columns = {
        "tomadaptClassName": ["null", "null"],
        "tomadaptSubtomogram": ["0", "2"],
        "tomadaptKind": ["none", "other"],
    }
    _, rows, names = classified_particles(star(tmp_path / "rejected.star", columns))
    assert (rows, names) == ([1], ["other"])


def test_another_number_of_labels_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("index,label\n0,a\n1,b\n")
    with pytest.raises(MismatchError, match="expected 3 labels; got 2"):
        read_labels(path, cubes(3))


@pytest.mark.parametrize(
    "text", ["", "index,class\n0,a\n", "index,label\n1,a\n0,b\n", "label\na\nb\n"]
)
def test_files_of_something_else_are_refused(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"cannot be used|an empty file"):
        read_labels(path, cubes(2))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    (tmp_path / "l.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="cannot be used"):
        read_labels(tmp_path / "l.npz", cubes(2))
    plain = star(tmp_path / "p.star", {"rlnCoordinateX": ["1"]})
    with pytest.raises(InputError, match="says no tomadaptClassName"):
        read_labels(plain, cubes(1))
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
        read_labels(path, cubes(2))
    path.write_text(f"{mark}index,label\n0,b\n1,a\n", encoding="utf-8")
    assert read_labels(path, cubes(2)) == ["b", "a"]


def test_rows_of_a_star_file_are_those_cubes_that_they_say(tmp_path):
    columns = {"tomadaptClassName": ["a", "b", "c"], "tomadaptSubtomogram": ["3", "1", "2"]}
    assert read_labels(star(tmp_path / "p.star", columns), cubes(3)) == ["b", "c", "a"]
    columns["tomadaptSubtomogram"] = ["3", "1", "3"]
    with pytest.raises(InputError, match="every cube once"):
        read_labels(star(tmp_path / "q.star", columns), cubes(3))


def test_regression_a_missing_index_hid_another_order(tmp_path):
    """One row's index was empty, so the order of all the others was not looked at."""
    path = tmp_path / "labels.csv"
    path.write_text("index,label\n1,a\n,b\n")
    with pytest.raises(InputError, match="in the order of the particles"):
        read_labels(path, cubes(2))


def test_regression_rows_without_a_key_are_refused(tmp_path):
    """A STAR file without tomadaptSubtomogram was joined to the cubes by the order of its rows."""
    path = star(tmp_path / "p.star", {"tomadaptClassName": ["a", "b"]})
    with pytest.raises(InputError, match="whose label a row is"):
        read_labels(path, cubes(2))


def test_regression_labels_of_some_cubes_go_by_their_numbers(tmp_path):
    """`average particles.star --labels FILE` took labels in the order of the rows."""
    some = cubes(4).subset([2, 0])
    columns = {"tomadaptClassName": [*"abcd"], "tomadaptSubtomogram": ["4", "3", "2", "1"]}
    assert read_labels(star(tmp_path / "p.star", columns), some) == ["b", "d"]
    path = tmp_path / "l.csv"
    path.write_text("index,label\n0,a\n1,b\n2,c\n3,d\n")
    assert read_labels(path, some) == ["c", "a"]
    path.write_text("index,label\n0,a\n1,b\n")
    with pytest.raises(MismatchError, match="expected 4 labels; got 2"):
        read_labels(path, some)


def test_regression_files_of_cubes_are_compared(tmp_path):
    """A cube was added to the folder and another taken away: the number of labels is the same."""
    path = tmp_path / "l.csv"
    path.write_text("index,label,file\n0,a,p1.mrc\n1,b,p3.mrc\n")
    assert read_labels(path, cubes(2, ["p1.mrc", "p3.mrc"])) == ["a", "b"]
    with pytest.raises(MismatchError, match=r"expected p2\.mrc at index 1; got p3\.mrc"):
        read_labels(path, cubes(2, ["p1.mrc", "p2.mrc"]))
    npz = tmp_path / "l.npz"
    files = np.array(["p1.mrc", "p3.mrc"])
    np.savez(npz, class_names=np.array(["a", "b"]), labels=np.array([1, 0]), files=files)
    with pytest.raises(MismatchError, match=r"p2\.mrc"):
        read_labels(npz, cubes(2, ["p1.mrc", "p2.mrc"]))


def test_regression_numbers_of_cubes_that_were_exchanged(tmp_path):
    """A STAR file of an earlier run numbered the cubes of a later one, in silence."""
    before, now = cubes(2), cubes(2, seed=1)
    digest = cubes_digest(before.source.cubes)
    columns = {"tomadaptClassName": ["a", "b"], "tomadaptSubtomogram": ["2", "1"]}
    path = star(tmp_path / "p.star", columns)
    path.write_text(f"{path.read_text()}\ndata_tomadapt\n\n_tomadaptCubes {digest}\n")
    assert read_labels(path, before) == ["b", "a"]
    require_same_cubes(path, before)
    for check in (read_labels, require_same_cubes):
        with pytest.raises(MismatchError, match="labels of the cubes"):
            check(path, now)


def test_regression_labels_of_another_stack_of_as_many_cubes(tmp_path):
    """labels.csv of one stack was taken for another's: summary.json beside it knows its cubes."""
    before, now = cubes(2), cubes(2, seed=1)
    (tmp_path / "labels.csv").write_text("index,label\n0,a\n1,b\n")
    (tmp_path / "summary.json").write_text(f'{{"cubes_digest": "{before.source.voxels}"}}')
    inverted = Subtomograms(ArrayVolumes(before.source.cubes, 10.0, sign=-1))
    assert read_labels(tmp_path / "labels.csv", inverted) == ["a", "b"]
    with pytest.raises(MismatchError, match="labels of the cubes"):
        read_labels(tmp_path / "labels.csv", now)


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_regression_labels_say_of_which_cubes_they_are_wherever_they_lie(tmp_path, suffix):
    """Those of ``predict`` did not, and a copy of ``classify``'s lost its summary: a set of as
    many other cubes was averaged by them without a word."""
    before, now = cubes(3), cubes(3, seed=1)
    p = np.eye(3, 2, dtype=np.float32)
    found = Prediction(("a", "b"), p, np.zeros((3, 1), np.float32), cubes=key_of(before.source))
    path = tmp_path / f"copy.{suffix}"
    found.write(path)
    assert read_labels(path, before) == ["a", "b", "a"]
    with pytest.raises(MismatchError, match="labels of the cubes"):
        read_labels(path, now)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["csv", "star"])
def test_labels_that_do_not_say_of_which_cubes_they_are_are_told(tmp_path, kind):
    """Other programs drop the block of a STAR file that says it."""
    path = tmp_path / "labels.csv"
    path.write_text("index,label\n0,a\n1,b\n")
    if kind == "star":
        columns = {"tomadaptClassName": ["a", "b"], "tomadaptSubtomogram": ["1", "2"]}
        path = star(tmp_path / "p.star", columns)
    with pytest.warns(UserWarning, match="does not say of which cubes its labels are"):
        assert read_labels(path, cubes(2)) == ["a", "b"]
