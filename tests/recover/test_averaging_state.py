"""What an iteration begins with: how far poses turned, and what the FSC leaves of each shell."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomadapt.recover.averaging_state import RefinementState, spectral_snr
from tomadapt.recover.fourier_sum import FourierSum
from tomadapt.recover.poses import Poses
from tomadapt.recover.rotations import symmetry_group

N = 16
CURVE = np.array([1.0, 0.99, 0.95, 0.8, 0.3, 0.05, 0.02, 0.01])


def poses(rotations):
    ones = np.ones((len(rotations), 1), np.float32)
    R = np.asarray(rotations, np.float32)[:, None]
    return Poses(R, np.zeros((len(R), 1, 3), np.float32), ones, ones)


def following(before, after, group):
    references = [np.zeros((N, N, N), np.float32)] * 2
    state = RefinementState(references, 4, poses(before))
    sums = [FourierSum.empty(N)] * 2
    return state.next(CURVE, poses(after), sums, group=group, voxel_size_A=10.0)


def test_a_copy_of_a_symmetric_pose_is_no_turn():
    """Regression: C4 particles turned by 90° for ever, and poses were never followed."""
    group = symmetry_group("C4")
    before = Rotation.random(9, rng=0).as_matrix()
    small = Rotation.from_rotvec([0, 0, np.radians(2.0)]).as_matrix()
    after = [R @ small @ group[i % 4] for i, R in enumerate(before)]
    assert following(before, after, group).history[-1]["median_turn_deg"] == pytest.approx(
        2, abs=0.1
    )
    alone = following(before, after, symmetry_group("C1"))
    assert alone.history[-1]["median_turn_deg"] > 80


def test_a_curve_that_never_reaches_the_threshold_has_no_resolution():
    low = following(np.eye(3)[None], np.eye(3)[None], symmetry_group("C1"))
    assert low.history[-1]["resolution_nm"] == pytest.approx(N / 4.63, abs=0.1)
    references = [np.zeros((N, N, N), np.float32)] * 2
    state = RefinementState(references, 4).next(
        np.zeros(N // 2), poses(np.eye(3)[None]), [FourierSum.empty(N)] * 2,
        group=symmetry_group("C1"), voxel_size_A=10.0,
    )  # fmt: skip
    assert np.isnan(state.history[-1]["resolution_nm"])
    assert state.shell == 6  # it looks on, a little further than the first shells


def test_signal_to_noise_is_that_of_the_curve_until_it_is_lost():
    found = spectral_snr(CURVE).numpy()
    np.testing.assert_allclose(found[1:5], CURVE[1:5] / (1 - CURVE[1:5]), rtol=1e-4)
    assert found[5:].max() <= 1.1e-3


@pytest.mark.parametrize("at", [1, 3])
def test_one_shell_without_signal_does_not_hide_those_behind_it(at):
    """Regression: the shell where a CTF is zero took the filter of all others with it."""
    curve = CURVE.copy()
    curve[at] = 0.0
    found = spectral_snr(curve).numpy()
    assert found[at] == 0
    np.testing.assert_allclose(found[4], 0.3 / 0.7, rtol=1e-4)
    assert found[5:].max() <= 1.1e-3
