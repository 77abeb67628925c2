"""Masks from maps: the particle in the middle, without its neighbours."""

import numpy as np
import pytest

from recover.conftest import phantom
from tomadapt.recover.mask import particle_mask, whole_box_mask


def ball(n, centre, radius):
    r = np.arange(n) - n // 2
    z, y, x = np.meshgrid(r, r, r, indexing="ij")
    cx, cy, cz = centre
    return np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) <= radius


def noisy(n, *parts):
    volume = np.random.default_rng(0).normal(scale=0.1, size=(n, n, n))
    for part in parts:
        volume += part
    return volume.astype(np.float32)


@pytest.mark.parametrize("n", [36, 41])
def test_a_neighbour_is_left_out_even_a_denser_one(n):
    particle, neighbour = ball(n, (1, -1, 2), 5), ball(n, (13, 0, 0), 4)
    mask = particle_mask(noisy(n, particle, 1.5 * neighbour))
    assert mask[particle].min() > 0.99
    assert mask[ball(n, (14, 0, 0), 2)].max() == 0


def test_the_mask_keeps_a_margin_and_ends_softly():
    n = 40
    mask = particle_mask(noisy(n, ball(n, (0, 0, 0), 6)))
    line = mask[n // 2, n // 2, n // 2 :]
    assert (line[:9] == 1).all()  # radius 6 and three voxels, a fourteenth of the box
    assert ((line[10:12] > 0) & (line[10:12] < 1)).all()
    assert (line[13:] == 0).all()


def test_a_hollow_particle_is_filled():
    n = 40
    shell = ball(n, (0, 0, 0), 10) & ~ball(n, (0, 0, 0), 7)
    assert particle_mask(noisy(n, shell))[n // 2, n // 2, n // 2] == 1


def test_maps_without_a_particle_give_the_sphere():
    n = 32
    sphere = whole_box_mask(n)
    np.testing.assert_array_equal(particle_mask(np.zeros((n, n, n), np.float32)), sphere)
    # Half of white noise is above any threshold in its middle, and hangs together.
    np.testing.assert_allclose(particle_mask(noisy(n)), sphere, atol=0.01)
    speck = np.zeros((n, n, n), np.float32)
    speck[n // 2, n // 2, n // 2] = 1
    np.testing.assert_array_equal(particle_mask(speck), sphere)


def test_nothing_reaches_beyond_the_sphere():
    n = 32
    mask = particle_mask(noisy(n, ball(n, (12, 0, 0), 6)))
    assert (mask <= whole_box_mask(n)).all()


@pytest.mark.parametrize("n", [32, 41])
def test_a_particle_in_several_parts_is_kept_whole(n):
    """Regression: of the phantom's four blobs one was kept, and no pose was found."""
    density = phantom(n)
    mask = particle_mask(noisy(n, 2 * density))
    assert (mask * density).sum() > 0.97 * density.sum()
    neighbour = ball(n, (0, 0.42 * n, 0), 4)
    beside = particle_mask(noisy(n, 2 * density, neighbour))
    assert (beside * density).sum() > 0.97 * density.sum()
    assert beside[neighbour].mean() < 0.2
