"""What is known of a recording becomes measured points."""

import numpy as np
import pytest
import torch

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.recover.recording import (
    StatedRecording,
    contradiction,
    measured_points,
    recording_of,
)


@pytest.fixture
def unknown() -> Subtomograms:
    return Subtomograms(ArrayVolumes(np.random.default_rng(0).normal(size=(2, 24, 24, 24)), 10.0))


def test_a_set_says_it_itself(planted):
    points = measured_points(planted.data.unlabelled())
    assert torch.equal(points.transfer, planted.points.transfer)


def test_stated_tilts_are_flat_without_a_defocus(unknown):
    flat = measured_points(unknown, StatedRecording(tilt_range_deg=(-60, 60)))
    assert (flat.transfer == 1).all()
    ctf = measured_points(unknown, StatedRecording(tilt_range_deg=(-60, 60), defocus_um=5.0))
    assert ctf.transfer.min() < -0.5
    narrow = measured_points(unknown, StatedRecording(tilt_range_deg=(-40, 40)))
    assert len(narrow.index) < len(flat.index)


def test_what_nobody_says_is_asked_for(unknown):
    with pytest.raises(ConfigError, match="--tilt-range"):
        measured_points(unknown)
    with pytest.raises(ConfigError, match="--tilt-range"):
        measured_points(unknown, StatedRecording(defocus_um=3.0))
    with pytest.raises(ConfigError, match="cannot be used"):
        measured_points(unknown, StatedRecording(tilt_range_deg=(60, -60)))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"defocus_um": 50_000.0}, "defocus_um cannot be used"),  # Å instead of µm
        ({"tilt_range_deg": (-600, 60)}, "must lie between -90 and 90"),
        ({"voltage_kv": 300_000.0}, "voltage_kv cannot be used"),
    ],
)
def test_other_units_are_refused_in_one_line(unknown, stated, message):
    """Regression: these ended in a traceback."""
    with pytest.raises(ConfigError, match=message):
        measured_points(unknown, StatedRecording(**{"tilt_range_deg": (-60, 60), **stated}))


def test_only_what_is_stated_is_replaced(planted):
    """Regression: a stated tilt range took the set's own CTF with it."""
    data = planted.data.unlabelled()
    own = data.acquisition
    found = recording_of(data, StatedRecording(tilt_range_deg=(-50, 50)))
    assert not found.ctf_corrected
    assert found.acquisition.defocus_um == own.defocus_um
    assert found.acquisition.tilt_angles_deg[-1] == 49
    other = recording_of(data, StatedRecording(defocus_um=3.0)).acquisition
    assert (other.defocus_um, other.tilt_angles_deg) == (3.0, own.tilt_angles_deg)
    assert "3 µm" in recording_of(data, StatedRecording(defocus_um=3.0)).summary["defocus"]


def test_tilts_that_the_particles_do_not_show_are_told_of(planted):
    data = planted.data.unlabelled()
    assert contradiction(data, recording_of(data)) is None
    wrong = recording_of(data, StatedRecording(tilt_range_deg=(-20, 20)))
    assert "in their spectrum" in contradiction(data, wrong)
