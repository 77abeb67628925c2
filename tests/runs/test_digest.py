"""Digests of texts, arrays and what JSON writes."""

import hashlib
from pathlib import Path

import numpy as np

from tomadapt.runs.digest import digest, file_sample


def test_parts_count_one_after_another():
    array = np.arange(6.0).reshape(2, 3)
    expected = hashlib.blake2b(b"ab" + array.tobytes(), digest_size=16).hexdigest()
    assert digest("a", b"b", array, size=16) == expected


def test_an_array_counts_by_its_values_and_not_by_how_it_lies_in_memory():
    array = np.arange(6.0).reshape(2, 3)
    assert digest(array[:, ::-1]) == digest(array[:, ::-1].copy())
    assert digest(array) != digest(array + 1)


def test_all_else_counts_as_json_writes_it():
    assert digest({"a": [1, None]}) == digest('{"a": [1, null]}')
    assert digest({"a": 1, "b": 2}) != digest({"b": 2, "a": 1})


def test_a_sample_tells_contents_and_sizes_apart(tmp_path: Path) -> None:
    """Its first, middle and last MiB; what lies between is not read."""
    path, mib = tmp_path / "volume.mrc", 2**20
    content = bytearray(8 * mib)
    path.write_bytes(content)
    before = file_sample(path)
    for place, seen in ((0, True), (4 * mib, True), (8 * mib - 1, True), (2 * mib, False)):
        changed = content.copy()
        changed[place] = 1
        path.write_bytes(changed)
        assert (file_sample(path) != before) == seen
    path.write_bytes(content + b"\0")
    assert file_sample(path) != before
    path.write_bytes(b"")
    assert file_sample(path) not in (None, before)
    assert file_sample(tmp_path) is None
    assert file_sample(tmp_path / "absent") is None
