"""Particles that are simulated when they are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError
from tomadapt.simulate.dataset import SimulationConfig, make_templates, simulate_set
from tomadapt.simulate.simulator import Simulator
from tomadapt.simulate.stream import stream

CONFIG = SimulationConfig(
    classes={"tric": "tric", "apoferritin": "apoferritin", "null": "null"},
    acquisition=Acquisition(defocus_um=4.0, tilt_angles_deg=tuple(range(-60, 61, 10))),
    per_class=6,
    snr=0.5,
    box=24,
    voxel_size_A=16.0,
    resolution_A=16.0,
    seed=11,
)
pytestmark = pytest.mark.usefixtures("one_thread")


def test_particles_are_those_of_a_stored_set(tmp_path):
    """The same indices of the same classes, up to the half precision of a stored set."""
    stored = simulate_set(CONFIG, tmp_path / "set")
    streamed = stream(CONFIG)
    for label in range(3):
        a = stored.subset(np.flatnonzero(stored.labels == label))
        b = streamed.subset(np.flatnonzero(streamed.labels == label))
        torch.testing.assert_close(b.read(range(6)), a.read(range(6)), atol=0.02, rtol=0)
    mixed = [
        data.read_mixed([0, 1], [1, 0], np.array([0.1, 2.0]))
        for data in (
            stored.subset(np.flatnonzero(stored.labels == 1)),
            streamed.subset(np.flatnonzero(streamed.labels == 1)),
        )
    ]
    torch.testing.assert_close(mixed[0], mixed[1], atol=0.02, rtol=0)


def test_a_particle_is_the_same_in_any_company():
    data = stream(CONFIG)
    whole = data.read(range(len(data)))
    torch.testing.assert_close(data.read([7, 2]), whole[[7, 2]])
    assert [data.class_names[i] for i in data.labels[:4]] == ["tric", "apoferritin", "null", "tric"]


def test_what_is_read_again_is_the_same_and_not_changed_by_mixing():
    data = stream(CONFIG)
    rows = np.arange(4)
    once = data.source.mix(rows, rows, torch.full((4,), 0.1))
    torch.testing.assert_close(data.source.mix(rows, rows, torch.full((4,), 0.1)), once)
    signal = data.source.mix(rows, rows, torch.full((4,), torch.inf))
    noise = data.source.mix(rows, rows, torch.ones(4)) - signal
    torch.testing.assert_close(signal + noise / np.sqrt(0.1), once, atol=1e-4, rtol=1e-4)


def test_defoci_in_turn():
    """Of a class's particles every second one is at the second defocus."""
    data = stream(CONFIG, defoci_um=[4.0, 7.0])
    alone = stream(
        CONFIG.model_copy(
            update={"acquisition": CONFIG.acquisition.model_copy(update={"defocus_um": 7.0})}
        )
    )
    first, second = 0, 3  # of class tric
    torch.testing.assert_close(data.read([second]), alone.read([second]))
    torch.testing.assert_close(data.read([first]), stream(CONFIG).read([first]))
    assert data.fingerprint != stream(CONFIG).fingerprint


def test_fewer_particles_than_defoci():
    with pytest.raises(ConfigError, match="fewer particles of a class than defoci"):
        stream(CONFIG, defoci_um=range(1, 9))


def test_threads_change_particles_by_rounding_alone():
    """A stream simulates batches on threads of their own; a stored set's are simulated in one."""
    data = stream(CONFIG)
    one = data.source.read(range(18))
    torch.set_num_threads(3)  # the fixture sets it back
    several = stream(CONFIG).source.read(range(18))
    assert torch.get_num_threads() == 3
    for streamed in (one, several):
        for label, name in enumerate(CONFIG.classes):
            particles = data.source.simulators[0].particles(name, range(6))
            stored = particles.signal + particles.noise / CONFIG.snr**0.5
            difference = (streamed[label::3] - stored).square().mean().sqrt()
            assert difference < 1e-5 * stored.square().mean().sqrt()


def test_an_error_on_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(Simulator, "particles", lambda *_: 1 / 0)
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        stream(CONFIG).source.read(range(18))
    assert torch.get_num_threads() == 2


def test_further_classes_come_more_rarely():
    """Their particles are those of a simulation of them; the others' are simulated as before."""
    alone = stream(CONFIG).source.simulators[0]
    densities = make_templates(CONFIG)
    further = {"blob": np.roll(densities["tric"], 2, axis=1), "lump": densities["apoferritin"]}
    data = stream(CONFIG, further=further, rarer=3)
    assert data.class_names == ("tric", "apoferritin", "null", "blob", "lump")
    assert np.bincount(data.labels).tolist() == [6, 6, 6, 2, 2]
    tric = np.flatnonzero(data.labels == 0)
    expected = alone.particles("tric", range(6))
    torch.testing.assert_close(
        data.source.read(tric),
        expected.signal + expected.noise / CONFIG.snr**0.5,
        atol=1e-4,
        rtol=1e-4,
    )
    blob = data.source.simulators[0].particles("blob", range(2))
    torch.testing.assert_close(
        data.source.read(np.flatnonzero(data.labels == 3)),
        blob.signal + blob.noise / CONFIG.snr**0.5,
        atol=1e-4,
        rtol=1e-4,
    )
    assert data.fingerprint != stream(CONFIG).fingerprint
    # A turn that is not finished is simulated whole.
    assert len(stream(CONFIG, further=further, rarer=4)) == 2 * (3 * 4 + 2)
