"""What is known of a recording becomes measured points."""

import numpy as np
import pytest
import torch

from tomadapt.errors import ConfigError
from tomadapt.io.volumes import ArrayVolumes
from tomadapt.recover.recording import StatedRecording, measured_points
from tomadapt.subtomograms import Subtomograms


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
    with pytest.raises(ConfigError, match="defocus without tilts"):
        measured_points(unknown, StatedRecording(defocus_um=3.0))
    with pytest.raises(ConfigError, match="cannot be used"):
        measured_points(unknown, StatedRecording(tilt_range_deg=(60, -60)))
