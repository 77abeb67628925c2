"""Particles with and without labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomadapt.data.subtomograms import (
    LabelledSubtomograms,
    MixableSource,
    Subtomograms,
    standardise,
)
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.particles import ArrayVolumes

LABELS = np.array([2, 0, 1, 0, 2, 2, 0, 1, 2, 2])
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def source() -> ArrayVolumes:
    cubes = np.random.default_rng(0).normal(size=(10, 6, 6, 6)).astype(np.float32)
    return ArrayVolumes(cubes, 10.0)


@pytest.fixture(scope="module")
def labelled(source: ArrayVolumes) -> LabelledSubtomograms:
    return LabelledSubtomograms(source, labels=LABELS, class_names=NAMES)


class TestStandardise:
    def test_each_cube_by_itself(self) -> None:
        noise = torch.randn(3, 5, 5, 5, generator=torch.Generator().manual_seed(0))
        volumes = noise * torch.tensor([1e-3, 1, 1e4])[:, None, None, None] + 7
        done = standardise(volumes).flatten(1)
        # 7 is known to 5e-7 in single precision, which is 5e-4 of the first cube's deviation.
        assert done.mean(1).abs().max() < 2e-3
        torch.testing.assert_close(done.std(1, correction=0), torch.ones(3))
        expected = (volumes[1] - volumes[1].mean()) / volumes[1].std(correction=0)
        torch.testing.assert_close(standardise(volumes)[1], expected)

    @pytest.mark.parametrize("scale", [1e-30, 1e-14, 1e20, 1e30])
    def test_regression_the_scale_of_a_file_changes_nothing(self, scale: float) -> None:
        """Warp's particles are tiny (relion #1191); below 1e-12 labels once changed."""
        volumes = torch.randn(2, 6, 6, 6, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(standardise(volumes * scale), standardise(volumes))
        exact = 2.0 ** round(np.log2(scale))
        torch.testing.assert_close(
            standardise(volumes * exact), standardise(volumes), rtol=0, atol=0
        )

    def test_a_constant_cube_becomes_zero(self) -> None:
        assert standardise(torch.full((1, 4, 4, 4), 0.1)).abs().max() == 0
        assert standardise(torch.full((1, 4, 4, 4), 2.0)).abs().max() == 0

    @settings(max_examples=20, deadline=None)
    @given(scale=st.floats(0.01, 100), offset=st.floats(-10, 10))
    def test_scale_and_offset_do_not_matter(self, scale: float, offset: float) -> None:
        volumes = torch.randn(2, 6, 6, 6, generator=torch.Generator().manual_seed(0))
        changed = standardise(scale * (volumes + offset))
        torch.testing.assert_close(changed, standardise(volumes), atol=1e-4, rtol=1e-4)

    def test_the_argument_is_left_alone(self) -> None:
        volumes = torch.randn(2, 4, 4, 4)
        before = volumes.clone()
        standardise(volumes)
        assert torch.equal(volumes, before)


class TestSubsets:
    def test_reading_is_standardised_and_in_order(
        self, source: ArrayVolumes, labelled: LabelledSubtomograms
    ) -> None:
        torch.testing.assert_close(
            labelled.read([7, 1, 7]), standardise(source.read(np.array([7, 1, 7])))
        )
        assert (labelled.box, labelled.voxel_size_A, labelled.acquisition) == (6, 10.0, None)

    def test_order_is_kept_through_subsets(self, labelled: LabelledSubtomograms) -> None:
        part = labelled.subset([8, 3, 0, 5]).subset([2, 0])
        assert type(part) is LabelledSubtomograms
        assert part.rows.tolist() == [0, 8]
        assert part.labels.tolist() == [LABELS[0], LABELS[8]]
        assert part.class_names == NAMES
        torch.testing.assert_close(part.read([1]), labelled.read([8]))

    def test_unlabelled_subsets_stay_unlabelled(self, source: ArrayVolumes) -> None:
        part = Subtomograms(source).subset(np.array([4, 2]))
        assert type(part) is Subtomograms
        assert part.rows.tolist() == [4, 2]

    @pytest.mark.parametrize("rows", [[], np.array([], dtype=int)])
    def test_empty_is_refused(self, source: ArrayVolumes, rows: object) -> None:
        with pytest.raises(InputError, match="no subtomograms"):
            Subtomograms(source, rows)


def test_unlabelled_particles_have_no_labels_to_reach(labelled: LabelledSubtomograms) -> None:
    part = labelled.subset([5, 1])
    bare = part.unlabelled()
    assert type(bare) is Subtomograms
    assert bare.rows.tolist() == [5, 1]
    torch.testing.assert_close(bare.read([0, 1]), part.read([0, 1]))
    assert not hasattr(bare, "labels")
    assert not hasattr(bare.subset([0]), "labels")
    assert set(vars(bare)) == {"source", "rows"}
    with pytest.raises(AttributeError):
        _ = bare.labels  # type: ignore[attr-defined]


class TestSplit:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    @pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
    def test_fraction_of_each_class(self, fraction: float, seed: int) -> None:
        counts = (40, 12, 4)
        labels = np.random.default_rng(9).permutation(np.repeat([0, 1, 2], counts))
        cubes = np.zeros((len(labels), 4, 4, 4), np.float32)
        data = LabelledSubtomograms(ArrayVolumes(cubes, 1.0), labels=labels, class_names=NAMES)
        rest, chosen = data.split(fraction, seed=seed)
        assert np.bincount(chosen.labels).tolist() == [
            max(1, round(fraction * count)) for count in counts
        ]
        assert sorted([*rest.rows, *chosen.rows]) == list(range(len(labels)))
        assert np.all(np.diff(rest.rows) > 0)
        assert np.all(np.diff(chosen.rows) > 0)

    def test_deterministic(self, labelled: LabelledSubtomograms) -> None:
        splits = [labelled.split(0.4, seed=seed)[1].rows.tolist() for seed in (3, 3, 4, 5, 6)]
        assert splits[0] == splits[1]
        assert len({tuple(s) for s in splits}) > 1

    def test_rows_are_those_of_the_source(self, labelled: LabelledSubtomograms) -> None:
        part = labelled.subset([9, 8, 6, 3, 2, 7])
        rest, chosen = part.split(0.5, seed=0)
        assert sorted([*rest.rows, *chosen.rows]) == [2, 3, 6, 7, 8, 9]
        for half in (rest, chosen):
            assert half.labels.tolist() == LABELS[half.rows].tolist()


class TestFirstOfEachClass:
    def test_first_and_rest(self, labelled: LabelledSubtomograms) -> None:
        first, rest = labelled.first_of_each_class(2)
        assert rest is not None
        assert first.rows.tolist() == [0, 1, 2, 3, 4, 7]
        assert rest.rows.tolist() == [5, 6, 8, 9]
        assert np.bincount(first.labels).tolist() == [2, 2, 2]

    def test_no_rest(self, labelled: LabelledSubtomograms) -> None:
        first, rest = labelled.first_of_each_class(5)
        assert first.rows.tolist() == list(range(10))
        assert rest is None

    def test_of_a_subset(self, labelled: LabelledSubtomograms) -> None:
        first, rest = labelled.subset([9, 6, 4, 1]).first_of_each_class(1)
        assert rest is not None
        assert first.rows.tolist() == [9, 6]
        assert rest.rows.tolist() == [4, 1]


def test_signal_and_noise_that_are_not_apart(labelled: LabelledSubtomograms) -> None:
    with pytest.raises(ConfigError, match="do not keep signal and noise apart"):
        labelled.read_mixed([0], [1], np.array([0.1]))


def test_mixing_asks_the_source_for_its_own_rows() -> None:
    class Mixable(ArrayVolumes):
        snr = 1.0

        @property
        def mixable(self) -> MixableSource:
            return self

        def mix(
            self, indices: np.ndarray, noise_indices: np.ndarray, snr: torch.Tensor
        ) -> torch.Tensor:
            asked.append((indices.tolist(), noise_indices.tolist(), snr.tolist()))
            return self.read(indices)

    asked: list[object] = []
    cubes = np.random.default_rng(0).normal(size=(10, 4, 4, 4)).astype(np.float32)
    data = LabelledSubtomograms(Mixable(cubes, 1.0), labels=LABELS, class_names=NAMES)
    part = data.subset([9, 4, 2])
    mixed = part.read_mixed([0, 2], [1, 1], np.array([0.5, 0.25]))
    assert asked == [([9, 2], [4, 4], [0.5, 0.25])]
    torch.testing.assert_close(mixed, part.read([0, 2]))
