"""Averages: from random poses to the structure, halves apart, going on after a kill."""

import numpy as np
import pytest

import tomadapt.recover.average as module
from tomadapt.errors import ConfigError, InputError
from tomadapt.fsc import soft_sphere
from tomadapt.recover.average import AveragingOptions, average, shared_shell
from tomadapt.recover.averaging_state import Average
from tomadapt.recover.compare import MapComparison
from tomadapt.recover.fourier import shell_power
from tomadapt.recover.initial_model import initial_model
from tomadapt.recover.symmetry import rotate_volume


@pytest.fixture(scope="module")
def particles(planted):
    return planted.data.subset(np.flatnonzero(planted.data.labels == 0)).unlabelled()


@pytest.fixture(scope="module")
def result(planted, particles) -> Average:
    return average(particles, planted.points, AveragingOptions(iterations=3))


@pytest.fixture(scope="module")
def first_reference(planted, particles):
    """What averages with one start begin with."""
    power = shell_power(particles, planted.points)
    shell = shared_shell(planted.points.n, AveragingOptions())
    return initial_model(particles, planted.points, power, shell=shell, seed=0, starts=1)


@pytest.fixture
def known_first_reference(first_reference, monkeypatch):
    """It is not computed again."""

    def known(*_, seed, starts, **__):
        assert (seed, starts) == (0, 1)
        return first_reference

    monkeypatch.setattr(module, "initial_model", known)


def test_the_structure_is_recovered_from_random_poses(planted, result):
    compared = MapComparison(planted.templates["ribosome_30s"], voxel_size_A=11.5)(result.volume)
    assert compared.discrepancy_nm < 3.5  # 24 particles; the CTF is 0 at 3.1 nm
    assert compared.correlation > 0.9


def test_another_structure_is_not_what_was_recovered(planted, result):
    right, wrong = (
        MapComparison(planted.templates[name], voxel_size_A=11.5)(result.volume)
        for name in ("ribosome_30s", "spliceosome")
    )
    assert wrong.correlation < right.correlation - 0.1
    assert wrong.discrepancy_nm > 1.3 * right.discrepancy_nm


def test_halves_are_apart_and_agree(result, particles):
    assert sorted(np.bincount(result.halves)) == [12, 12]
    assert len(result.poses.scores) == len(particles)
    half, seventh = result.resolution_A(0.5), result.resolution_A(0.143)
    assert half is not None
    assert seventh is not None
    assert seventh <= half < 60
    assert result.volume.shape == (32, 32, 32)


def test_iterations_are_recorded(result):
    assert [record["iteration"] for record in result.history] == [1.0, 2.0, 3.0]
    assert np.isnan(result.history[0]["median_turn_deg"])  # from nothing there is no turn
    assert result.history[-1]["median_turn_deg"] < 5.0
    assert result.history[-1]["mean_gain"] > result.history[0]["mean_gain"]


def test_a_template_gives_its_own_frame(planted, particles):
    density = planted.templates["ribosome_30s"]
    found = average(particles, planted.points, AveragingOptions(iterations=1), template=density)
    middle = slice(4, -4)
    a, b = found.volume[middle, middle, middle], density[middle, middle, middle]
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.75


def test_noise_gives_no_resolution(planted):
    noise = planted.data.subset(np.flatnonzero(planted.data.labels == 2)).unlabelled()
    found = average(noise, planted.points, AveragingOptions(iterations=2, starts=1))
    seen = found.resolution_A(0.5)
    assert seen is None or seen > 50


def test_an_interrupted_average_goes_on(
    planted, particles, tmp_path, monkeypatch, known_first_reference
):
    options = AveragingOptions(iterations=2, starts=1)
    whole = average(particles, planted.points, options)
    state = tmp_path / "state.npz"
    calls = []

    def stop_at_second(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # the first half of the second iteration
            raise KeyboardInterrupt
        return align(*args, **kwargs)

    align = module.align
    monkeypatch.setattr(module, "align", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        average(particles, planted.points, options, checkpoint=state)
    monkeypatch.setattr(module, "align", align)
    monkeypatch.setattr(module, "initial_model", None)  # not needed a second time
    again = average(particles, planted.points, options, checkpoint=state)
    np.testing.assert_array_equal(again.volume, whole.volume)
    assert repr(again.history) == repr(whole.history)


def test_it_is_kept_whole(result, tmp_path):
    path = tmp_path / "a.npz"
    result.save(path)
    again = Average.load(path)
    np.testing.assert_array_equal(again.volume, result.volume)
    np.testing.assert_array_equal(again.half_maps, result.half_maps)
    np.testing.assert_array_equal(again.mask, result.mask)
    np.testing.assert_array_equal(again.fsc.corrected, result.fsc.corrected)
    assert again.fsc.randomised_from == result.fsc.randomised_from
    np.testing.assert_array_equal(again.poses.rotations, result.poses.rotations)
    assert repr(again.history) == repr(result.history)
    assert again.voxel_size_A == 11.5


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut", None])
def test_damaged_files_are_refused(result, tmp_path, damage):
    path = tmp_path / "a.npz"
    result.save(path)
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    with pytest.raises(InputError, match="is damaged"):
        Average.load(path)


def test_symmetry_is_imposed(planted, particles, known_first_reference):
    options = AveragingOptions(iterations=1, starts=1, symmetry="C2")
    found = average(particles, planted.points, options)
    half_turn = np.diag([-1.0, -1.0, 1.0])
    turned = rotate_volume(found.volume, half_turn)
    assert np.corrcoef(turned.ravel(), found.volume.ravel())[0, 1] > 0.97


def test_too_few_particles_and_unknown_symmetry_are_refused(planted, particles):
    with pytest.raises(InputError, match="at least 4"):
        average(particles.subset([0, 1, 2]), planted.points, AveragingOptions())
    with pytest.raises(ConfigError, match="unknown symmetry"):
        average(particles, planted.points, AveragingOptions(symmetry="Q"))


def test_the_first_reference_depends_on_its_seed_alone(planted, particles, quick_first_references):
    power = shell_power(particles, planted.points)
    made = [
        initial_model(particles, planted.points, power, shell=5, seed=seed, starts=1)[0]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert np.abs(made[0] - made[2]).max() > 0


def test_a_mask_from_the_map_is_tighter_than_the_sphere_and_no_worse(
    planted, particles, known_first_reference
):
    options = AveragingOptions(iterations=3, starts=1)
    masked, wide = (
        average(particles, planted.points, options.model_copy(update={"mask": mask}))
        for mask in ("map", "sphere")
    )
    assert masked.mask.mean() < 0.6 * wide.mask.mean()
    truth = MapComparison(planted.templates["ribosome_30s"], voxel_size_A=11.5)
    assert truth(masked.volume).discrepancy_nm <= truth(wide.volume).discrepancy_nm


def test_a_mask_of_the_users_own_is_what_is_used(planted, particles):
    density = planted.templates["ribosome_30s"]
    own = soft_sphere(32, radius_voxels=8.0)
    options = AveragingOptions(iterations=1)
    found = average(particles, planted.points, options, template=density, mask=own)
    np.testing.assert_array_equal(found.mask, own)
    assert np.abs(found.volume[own == 0]).max() == 0
    assert np.abs(found.half_maps[0][own == 0]).max() > 0
