from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from tomadapt.data.subtomograms import LabelledSubtomograms, SourceDefaults
from tomadapt.errors import ConfigError, InputError, MismatchError, OutputError
from tomadapt.learn.engine import EpochPlan
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import (
    PAPER_TRAINING,
    SourceTraining,
    snr_sentence,
    train_source,
    with_snr_range,
)
from tomadapt.metrics import accuracy


def test_learns_planted_classes(make_domain, fabric):
    options = SourceTraining(epochs=20, batch_size=16, seed=1)
    model, history = train_source(make_domain(30, seed=0), options, fabric=fabric)
    unseen = make_domain(20, seed=9)
    assert accuracy(predict(model, unseen, fabric=fabric).labels, unseen.labels) > 0.8
    assert [record["epoch"] for record in history] == list(range(1, 21))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert model.card.training["history"] == history


@pytest.mark.parametrize("network", ["default", "paper"])
def test_resumes_to_the_same_bits(make_domain, fabric, tmp_path, network):
    data = make_domain(6, seed=0)
    options = SourceTraining(network=network, epochs=3, batch_size=8, augment=True, seed=4)
    whole, history = train_source(data, options, fabric=fabric)

    class Killed(Exception):
        pass

    def kill(record):
        if record["epoch"] == 1:
            raise Killed

    checkpoint = tmp_path / "c.pt"
    with pytest.raises(Killed):
        train_source(data, options, fabric=fabric, checkpoint=checkpoint, on_epoch=kill)
    again = []
    resumed, resumed_history = train_source(
        data, options, fabric=fabric, checkpoint=checkpoint, on_epoch=again.append
    )
    assert [r["epoch"] for r in again] == [2, 3]
    assert resumed_history == history
    a, b = whole.state(), resumed.state()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_checkpoint_of_other_options_is_refused(make_domain, fabric, tmp_path):
    """Hours of another training are not thrown away without a word."""
    data, checkpoint = make_domain(4), tmp_path / "c.pt"
    options = SourceTraining(epochs=1, batch_size=8)
    train_source(data, options, fabric=fabric, checkpoint=checkpoint)
    before, other = checkpoint.read_bytes(), options.model_copy(update={"seed": 7})
    with pytest.raises(MismatchError, match=r"holds a training of .* in seed \(0 → 7\)"):
        train_source(data, other, fabric=fabric, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_too_few_particles_of_a_class(make_domain, fabric):
    data = make_domain(3).subset([0, 1, 2, 3, 4, 5, 6])
    with pytest.raises(ConfigError, match="too few particles of class 'two'"):
        train_source(data, SourceTraining(epochs=1), fabric=fabric)


@pytest.mark.parametrize("options", [{"snr_range": (0.1, 1.0)}, {"repair_noise": True}])
def test_mixing_needs_signal_and_noise_apart(make_domain, fabric, options):
    with pytest.raises(ConfigError, match="do not keep signal and noise apart"):
        train_source(make_domain(4), SourceTraining(epochs=1, **options), fabric=fabric)


class Planted(SourceDefaults):
    """A mixable source whose signal and noise can be told apart in what is read."""

    box, voxel_size_A, acquisition, snr, identity = 24, 10.0, None, 0.25, "planted"

    def __init__(self, n):
        self.n, self.asked = n, []

    def __len__(self):
        return self.n

    @property
    def mixable(self):
        return self

    def mix(self, indices, noise_indices, snr):
        self.asked.append((np.asarray(indices), np.asarray(noise_indices), snr.numpy()))
        return torch.randn(len(indices), 24, 24, 24)

    def read(self, indices):
        return torch.randn(len(indices), 24, 24, 24)


def planted_training(fabric, **options):
    source = Planted(40)
    data = LabelledSubtomograms(source, labels=np.arange(40) % 2, class_names=("a", "b"))
    train_source(data, SourceTraining(epochs=2, batch_size=8, **options), fabric=fabric)
    parts = zip(*source.asked, strict=True)
    return [np.concatenate(part) for part in parts]


def test_snr_is_drawn_log_uniformly_from_the_range(fabric):
    rows, noise, snr = planted_training(fabric, snr_range=(0.01, 1.0))
    assert (rows == noise).all()
    assert snr.min() >= 0.01
    assert snr.max() <= 1.0
    assert np.log10(snr).mean() == pytest.approx(-1, abs=0.25)


def test_noise_is_paired_anew_every_epoch(fabric):
    rows, noise, snr = planted_training(fabric, repair_noise=True)
    assert (snr == 0.25).all()
    assert (rows != noise).mean() > 0.8
    half = len(rows) // 2
    first, second = dict(zip(rows[:half], noise[:half], strict=True)), {}
    second.update(zip(rows[half:], noise[half:], strict=True))
    shared = first.keys() & second.keys()
    assert len(shared) > 20
    assert np.mean([first[r] != second[r] for r in shared]) > 0.8


def test_what_happens_to_a_particle_does_not_depend_on_the_batch_size(fabric):
    plan = EpochPlan.draw(50, seed=3, epoch=2)
    in_small = np.concatenate(list(plan.batches(5, fabric)))
    in_large = np.concatenate(list(plan.batches(25, fabric)))
    assert (in_small == in_large).all()
    again = EpochPlan.draw(50, seed=3, epoch=2)
    assert (plan.shifts == again.shifts).all()
    assert (plan.order != EpochPlan.draw(50, seed=3, epoch=3).order).any()


def test_paper_training_is_that_of_the_released_code():
    assert (PAPER_TRAINING.network, PAPER_TRAINING.epochs) == ("paper", 100)
    assert (PAPER_TRAINING.batch_size, PAPER_TRAINING.learning_rate) == (64, 1e-3)
    assert PAPER_TRAINING.schedule == "constant"
    assert not PAPER_TRAINING.augment
    assert PAPER_TRAINING.snr_range is None


def test_snr_range_must_be_positive_and_ordered():
    for wrong in ((0.0, 1.0), (1.0, 0.1)):
        with pytest.raises(ValueError, match="snr_range"):
            SourceTraining(snr_range=wrong)


def particles_at(snr, before_ctf_ratio=None):
    own = {"snr": snr, "before_ctf_ratio": before_ctf_ratio}
    source = type("AtSnr", (Planted,), own)(4)
    return LabelledSubtomograms(source, labels=np.zeros(4, dtype=int), class_names=("a",))


class Recorded(Planted):
    """Signal and noise were never apart."""

    mixable = None


RECORDED = LabelledSubtomograms(Recorded(4), labels=np.zeros(4, dtype=int), class_names=("a",))


def test_a_range_about_the_sets_own_snr_by_default():
    simulated = particles_at(0.1)
    assert with_snr_range(SourceTraining(), simulated).snr_range == (0.025, 0.4)
    for options in (SourceTraining(snr_range=(0.1, 0.1)), PAPER_TRAINING):
        assert with_snr_range(options, simulated) == options
    assert with_snr_range(SourceTraining(), RECORDED) == SourceTraining()


def test_snrs_are_told_in_both_definitions():
    """Numbers of the two differ by the ratio that the set's simulation measured."""
    data = particles_at(0.1, before_ctf_ratio=2.0)
    assert snr_sentence(SourceTraining(snr_range=(0.025, 0.4)), data) == (
        "SNRs are drawn between 0.025 and 0.4 after the CTF, 0.05 and 0.8 before it"
    )
    assert snr_sentence(SourceTraining(), data) == "The SNR is 0.1 after the CTF, 0.2 before it"
    assert snr_sentence(SourceTraining(), particles_at(0.1)) == "The SNR is 0.1 after the CTF"
    assert snr_sentence(SourceTraining(), RECORDED) == ""


def test_damaged_checkpoint_is_named(make_domain, fabric, tmp_path):
    """Regression: a damaged checkpoint was a traceback."""
    checkpoint = tmp_path / "c.pt"
    checkpoint.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(InputError, match=r"checkpoint .*c.pt is damaged"):
        train_source(make_domain(4), SourceTraining(epochs=1), fabric=fabric, checkpoint=checkpoint)


def test_full_disk_while_saving_a_checkpoint(make_domain, fabric, tmp_path, monkeypatch):
    """Regression: torch reports a full disk as a RuntimeError."""

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="no space left"):
        train_source(
            make_domain(4), SourceTraining(epochs=1), fabric=fabric, checkpoint=tmp_path / "c.pt"
        )
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_other_particles_is_told_and_not_used(make_domain, fabric, tmp_path):
    """Regression: a checkpoint was known by the number of particles alone."""
    options, checkpoint = SourceTraining(epochs=1, batch_size=8), tmp_path / "c.pt"
    train_source(make_domain(4, seed=0), options, fabric=fabric, checkpoint=checkpoint)
    other, epochs = make_domain(4, seed=1), []
    with pytest.warns(UserWarning, match="begins anew, not from .*c.pt: it is of other data"):
        train_source(other, options, fabric=fabric, checkpoint=checkpoint, on_epoch=epochs.append)
    assert len(epochs) == 1


def test_checkpoint_of_an_earlier_version_is_told_and_not_used(make_domain, fabric, tmp_path):
    checkpoint, epochs = tmp_path / "c.pt", []
    torch.save({"key": "[]", "history": []}, checkpoint)
    with pytest.warns(UserWarning, match="another version wrote it"):
        train_source(
            make_domain(4),
            SourceTraining(epochs=1, batch_size=8),
            fabric=fabric,
            checkpoint=checkpoint,
            on_epoch=epochs.append,
        )
    assert len(epochs) == 1
