"""Digests of texts, arrays and what JSON writes."""

import hashlib

import numpy as np

from tomadapt.runs.digest import digest


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
