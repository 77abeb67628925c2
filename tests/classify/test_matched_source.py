"""The matched source: geometry from structures, defoci, and a cache that knows its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tomadapt.acquisition import Acquisition
from tomadapt.classify.matched_source import Geometry, choose_geometry, matched_source
from tomadapt.classify.options import SourceOptions
from tomadapt.errors import ConfigError
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.learn.engine import make_fabric

ACQUISITION = Acquisition(name="stated", defocus_um=4.0)
CLASSES = {"apoferritin": "apoferritin", "tric": "tric"}


def options(**changes: object) -> SourceOptions:
    values = {"classes": CLASSES, "acquisition": ACQUISITION, "per_class": 6, "epochs": 1}
    return SourceOptions.model_validate(values | changes)


class TestGeometry:
    def test_the_tomograms_voxels_where_they_serve(self) -> None:
        geometry = choose_geometry(options(), 10.0)
        assert geometry.voxel_size_A == 10.0
        assert geometry.box * 10.0 >= 2 * max(geometry.radii_A.values())
        # Apoferritin's shell is 12 nm wide.
        assert 60 < geometry.radii_A["apoferritin"] < 80
        assert geometry.mean_diameter_A == pytest.approx(
            geometry.radii_A["apoferritin"] + geometry.radii_A["tric"]
        )

    def test_fine_voxels_become_coarser(self) -> None:
        geometry = choose_geometry(options(), 1.7)
        assert geometry.box == 40
        assert geometry.voxel_size_A > 4

    def test_a_stated_box_is_held_to(self) -> None:
        assert choose_geometry(options(box=32), 10.0).box == 32
        with pytest.raises(ConfigError, match=r"too small for tric.*got 24 voxels"):
            choose_geometry(options(box=24, voxel_size_A=5.0), 10.0)

    def test_null_needs_no_structure(self) -> None:
        with_null = options(classes={**CLASSES, "null": "null"})
        assert choose_geometry(with_null, 10.0) == choose_geometry(options(), 10.0)
        assert list(with_null.all_classes) == ["apoferritin", "tric", "null"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


GEOMETRY = Geometry(box=24, voxel_size_A=16.0, radii_A={})


def test_one_set_a_defocus_and_a_cache(cache: Path, one_thread: None) -> None:
    fabric = make_fabric("cpu")
    first = matched_source(options(), GEOMETRY, cache, fabric=fabric)
    assert not first.reused
    assert len(first.data) == 3 * 3 * 6
    assert np.bincount(first.data.labels).tolist() == [18, 18, 18]
    assert first.model.card.class_names == ("apoferritin", "tric", "null")
    assert first.data.acquisition == ACQUISITION
    assert not list(first.path.parent.glob("*checkpoint*"))
    again = matched_source(options(), GEOMETRY, cache, fabric=fabric)
    assert again.reused
    assert again.model.fingerprint == first.model.fingerprint
    for changes in (
        {"seed": 1},
        {"acquisition": ACQUISITION.model_copy(update={"defocus_um": 3.0})},
    ):
        other = matched_source(options(**changes), GEOMETRY, cache, fabric=fabric)
        assert not other.reused


def test_the_same_structures_under_other_paths(
    tmp_path: Path, cache: Path, one_thread: None
) -> None:
    """A folder that was moved, or a path written otherwise: the densities are the same."""
    fabric = make_fabric("cpu")
    grid = np.linspace(-1.5, 1.5, 24) ** 2
    # Falling off towards its rim: a map of two values is taken for a mask.
    ball = np.maximum(1 - grid[:, None, None] - grid[:, None] - 2 * grid, 0).astype(np.float32)
    found = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        write_mrc(tmp_path / name / "ball.mrc", ball, voxel_size_A=10.0)
        stated = options(
            classes={"ball": str(tmp_path / name / "ball.mrc")},
            folder=tmp_path / name,
            defocus_spread_um=0,
        )
        found.append(matched_source(stated, GEOMETRY, cache, fabric=fabric))
        (tmp_path / name / "ball.mrc").unlink()
    assert [source.reused for source in found] == [False, True]
    assert found[0].path == found[1].path
    assert found[0].data.fingerprint == found[1].data.fingerprint


def test_no_spread_is_one_set(cache: Path, one_thread: None) -> None:
    source = matched_source(
        options(defocus_spread_um=0), GEOMETRY, cache, fabric=make_fabric("cpu")
    )
    assert len(source.data) == 3 * 6


def test_noise_stays_with_its_defocus(cache: Path, one_thread: None) -> None:
    """What is mixed of two parts' particles is a signal and noise of one part."""
    data = matched_source(options(), GEOMETRY, cache, fabric=make_fabric("cpu")).data
    per_set = len(data) // 3
    joined, parts = data.source, data.source.parts  # type: ignore[attr-defined]
    snr = torch.full((3,), 0.5)
    rows, noise = np.array([1, per_set + 2, 2 * per_set]), np.array([2 * per_set + 4, 3, per_set])
    mixed = joined.mix(rows, noise, snr)  # type: ignore[attr-defined]
    for place, (part, own, other) in enumerate([(0, 1, 4), (1, 2, 3), (2, 0, 0)]):
        expected = parts[part].mix(np.array([own]), np.array([other]), snr[:1])[0]
        torch.testing.assert_close(mixed[place], expected)
    np.testing.assert_array_equal(joined.read(rows)[1], parts[1].read([2])[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": {"null": "null"}}, "at least one structure"),
        ({"classes": {"tric": "tric", "null": "apoferritin"}}, "null is no macromolecule"),
        ({"snr_range": (0.3, 0.1)}, "must rise"),
        ({"per_class": 2}, "greater than or equal to 6"),
    ],
)
def test_options_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**changes)
