"""Averages of classes in a folder, and discovery on top of it."""

import csv
import json

import mrcfile
import numpy as np
import pytest

from tomadapt.errors import MismatchError
from tomadapt.recover.average import AveragingOptions
from tomadapt.recover.averages import average_classes, file_stems
from tomadapt.recover.clusters import ClusterOptions, cluster
from tomadapt.recover.discover import DiscoveryOptions, TargetEmbedding, discover

QUICK = AveragingOptions(iterations=1, starts=1)


@pytest.fixture(scope="module")
def averaged(planted, tmp_path_factory):
    out = tmp_path_factory.mktemp("averages")
    rows = np.concatenate([np.flatnonzero(planted.data.labels == c)[:8] for c in (0, 1)])
    data = planted.data.subset(rows).unlabelled()
    names = ["a/b"] * 8 + ["few"] * 2 + ["c"] * 6
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomadapt.recover.initial_model.ITERATIONS", 3)
        done = average_classes(
            data, names, planted.points, QUICK, out, progress=lambda n, name: told.append(n)
        )
    return out, data, names, done, told


def test_maps_carry_their_voxel_size(averaged):
    out, *_ = averaged
    for name in ("a_b.mrc", "a_b_half1.mrc", "a_b_half2.mrc", "c.mrc"):
        with mrcfile.open(out / name) as file:
            assert file.data.shape == (32, 32, 32)
            assert float(file.voxel_size.x) == pytest.approx(11.5)


def test_every_class_is_accounted_for(averaged):
    out, _, _, done, told = averaged
    record = json.loads((out / "fsc.json").read_text())["classes"]
    assert record["few"] == {"particles": 2, "reason": "fewer than 4 particles"}
    assert record["a/b"]["particles"] == 8
    assert {"resolution_0.5_nm", "resolution_0.143_nm", "fsc"} <= set(record["c"])
    assert [one.name for one in done] == ["a/b", "c", "few"]
    assert sum(told) == 3 * (QUICK.iterations + 1)


def test_poses_say_whose_they_are_and_in_which_half(averaged):
    """Regression: they were numbered within their class."""
    out, data, names, done, _ = averaged
    with (out / "c_poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [str(data.rows[i]) for i, name in enumerate(names) if name == "c"]
    assert [row["index"] for row in rows] == expected
    assert [int(row["half"]) - 1 for row in rows] == done[1].result.halves.tolist()
    assert float(rows[2]["shift_y_voxels"]) == pytest.approx(
        done[1].result.poses.shifts[2, 0, 1], abs=1e-4
    )


def test_a_finished_class_is_not_averaged_again(averaged, planted, monkeypatch):
    out, data, names, done, _ = averaged
    monkeypatch.setattr("tomadapt.recover.averages.average", None)
    again = average_classes(data, names, planted.points, QUICK, out)
    np.testing.assert_array_equal(again[0].result.volume, done[0].result.volume)


def test_a_folder_of_other_averages_is_refused(averaged, planted):
    out, data, names, *_ = averaged
    with pytest.raises(MismatchError, match="another configuration"):
        average_classes(data, names[::-1], planted.points, QUICK, out)
    with pytest.raises(MismatchError, match="options"):
        average_classes(data, names, planted.points, AveragingOptions(), out)


def test_file_names_are_safe_and_distinct():
    stems = file_stems(["a/b", "a_b", "../x", "A_B", "ok-1.2", "…"])
    assert len({s.lower() for s in stems.values()}) == 6
    assert all("/" not in s and not s.startswith(".") for s in stems.values())
    assert stems["ok-1.2"] == "ok-1.2"
    assert file_stems(["a", "a_mask", "a_half1"]) == {
        "a": "a", "a_mask": "a_mask_", "a_half1": "a_half1_",
    }  # fmt: skip


def test_where_no_cluster_is_found_every_particle_is_still_listed(planted, tmp_path):
    data = planted.data.subset(range(6)).unlabelled()
    embedding = TargetEmbedding(data, np.eye(6), ["x"] * 6, np.arange(6.0))
    found, averages = discover(
        embedding, np.full(6, -1), points=planted.points, known={}, out=tmp_path
    )
    assert (found, averages) == ([], [])
    with (tmp_path / "particles.csv").open() as file:
        assert [row["cluster"] for row in csv.DictReader(file)] == ["none"] * 6
    assert json.loads((tmp_path / "summary.json").read_text())["in_no_cluster"] == 6


def test_regression_clusters_of_some_particles_name_them_by_their_numbers(planted, tmp_path):
    """The index in particles.csv was the row's own place, and that in poses the particle's."""
    rows = [9, 2, 7, 4]
    embedding = TargetEmbedding(
        planted.data.subset(rows).unlabelled(), np.eye(4), ["x"] * 4, np.arange(4.0)
    )
    discover(embedding, np.full(4, -1), points=planted.points, known={}, out=tmp_path)
    with (tmp_path / "particles.csv").open() as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == rows


def test_a_structure_that_no_class_explains_is_a_candidate(
    planted, tmp_path, quick_first_references
):
    rows = np.concatenate([np.flatnonzero(planted.data.labels == c)[:16] for c in (0, 1, 2)])
    features = np.repeat(np.eye(3), 16, axis=0) + 0.01 * np.random.default_rng(0).normal(
        size=(48, 3)
    )
    embedding = TargetEmbedding(
        planted.data.subset(rows).unlabelled(),
        features,
        ["known"] * 48,
        np.repeat([0.0, 1.0, 2.0], 16),
    )
    options = DiscoveryOptions(
        clusters=ClusterOptions(count=3), averaging=AveragingOptions(iterations=2, starts=1)
    )
    told = []
    found, averages = discover(
        embedding,
        cluster(features, options.clusters),
        points=planted.points,
        known={"known": planted.templates["ribosome_30s"]},
        out=tmp_path,
        options=options,
        progress=lambda n, name: told.append(n),
    )
    assert sum(told) == 3 * (2 + 2)
    # The third is noise alone: unlike any class, but its halves agree on nothing either.
    assert [one.candidate for one in found] == [True, False, False]
    assert [one.unknown_score for one in found] == [1.0, 2.0, 0.0]
    assert [one.name for one in averages] == [one.name for one in found]
    assert found[2].match == "known"
    assert found[2].discrepancy_nm < 3.5
    assert (tmp_path / f"candidate_{found[0].name}.mrc").exists()
    with (tmp_path / "clusters.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [one.name for one in found]
    with (tmp_path / "particles.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 48
