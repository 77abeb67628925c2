"""A student learns what a judge says of the target's own cubes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tomadapt.data.subtomograms import LabelledSubtomograms, SourceDefaults
from tomadapt.errors import ConfigError, MismatchError
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import SourceTraining, train_source
from tomadapt.learn.student import SoftLabelled, StudentTraining, train_student
from tomadapt.metrics import accuracy

TRAINING = StudentTraining(epochs=12, batch_size=16, snr_range=(0.5, 2.0), seed=1)


@dataclasses.dataclass(frozen=True)
class Apart(SourceDefaults):
    """Cubes without noise, to which white noise is added at an SNR."""

    clean: object

    acquisition, identity, snr = None, "apart", 1.0

    def __len__(self):
        return len(self.clean)

    @property
    def box(self):
        return self.clean.box

    @property
    def voxel_size_A(self):
        return self.clean.voxel_size_A

    @property
    def mixable(self):
        return self

    def mix(self, indices, noise_indices, snr):
        signal = self.clean.read(indices)
        noise = [
            torch.randn(signal.shape[1:], generator=torch.Generator().manual_seed(int(i)))
            for i in noise_indices
        ]
        return signal + 0.5 * torch.stack(noise) * snr.rsqrt()[:, None, None, None]

    def read(self, indices):
        return self.mix(indices, indices, torch.ones(len(indices)))


def simulated(make_domain, per_class=24):
    """The source: small blobs."""
    clean = make_domain(per_class, noise=0.0)
    return LabelledSubtomograms(
        Apart(clean.source), labels=clean.labels, class_names=clean.class_names
    )


def judged(data, sure=0.9, wrong=()):
    """A judge that is right but for some particles."""
    labels = data.labels.copy()
    labels[list(wrong)] = (labels[list(wrong)] + 1) % 3
    p = np.full((len(data), 3), (1 - sure) / 2)
    p[np.arange(len(data)), labels] = sure
    return SoftLabelled(data.unlabelled(), p)


def test_it_labels_a_target_that_is_unlike_the_source(make_domain, fabric):
    """Also where a tenth of the judge's labels are wrong."""
    target = make_domain(24, seed=5, scale=3.0, noise=5.0)
    unseen = make_domain(20, seed=6, scale=3.0, noise=5.0)
    source = simulated(make_domain)
    before, _ = train_source(source, SourceTraining(epochs=12, batch_size=16), fabric=fabric)
    taught = judged(target, wrong=range(0, 72, 10))
    student, history = train_student(taught, source, TRAINING, fabric=fabric)
    score = {
        name: accuracy(predict(model, unseen, fabric=fabric).labels, unseen.labels)
        for name, model in (("before", before), ("student", student))
    }
    assert score["student"] > 0.8
    assert score["student"] > score["before"] + 0.1
    assert history[-1]["loss_judged"] < history[0]["loss_judged"]
    assert student.card.method == "student"
    assert student.card.training["judged"] == len(target)


def test_resumes_to_the_same_bits(make_domain, fabric, tmp_path):
    taught, source = judged(make_domain(6, seed=5)), simulated(make_domain, 6)
    options = TRAINING.model_copy(update={"epochs": 3})
    whole, history = train_student(taught, source, options, fabric=fabric)

    class Killed(Exception):
        pass

    def kill(record):
        if record["epoch"] == 2:
            raise Killed

    checkpoint = tmp_path / "c.pt"
    with pytest.raises(Killed):
        train_student(taught, source, options, fabric=fabric, checkpoint=checkpoint, on_epoch=kill)
    resumed, again = train_student(taught, source, options, fabric=fabric, checkpoint=checkpoint)
    assert again == history
    a, b = whole.state(), resumed.state()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_checkpoint_of_another_judgement_is_not_used(make_domain, fabric, tmp_path):
    target, source, checkpoint = make_domain(4, seed=5), simulated(make_domain, 4), tmp_path / "c"
    options = TRAINING.model_copy(update={"epochs": 1})
    train_student(judged(target), source, options, fabric=fabric, checkpoint=checkpoint)
    other = judged(target, wrong=(3,))
    with pytest.warns(UserWarning, match="it is of other data"):
        train_student(other, source, options, fabric=fabric, checkpoint=checkpoint)


def test_every_batch_holds_judged_and_simulated_particles(make_domain, fabric, monkeypatch):
    target, source = make_domain(3, seed=5), simulated(make_domain, 8)
    taught = judged(target)
    asked = []
    read = taught.data.read
    monkeypatch.setattr(taught.data, "read", lambda rows: asked.append(list(rows)) or read(rows))
    options = TRAINING.model_copy(update={"epochs": 1, "judged_share": 0.25})
    train_student(taught, source, options, fabric=fabric)
    assert {len(rows) for rows in asked} == {4}
    assert len(asked) == 24 // 12
    assert len({row for rows in asked for row in rows}) == 8  # 9 particles, 8 places


def test_a_checkpoint_of_other_labels_of_the_source_is_not_used(make_domain, fabric, tmp_path):
    source, checkpoint = simulated(make_domain, 4), tmp_path / "c"
    taught = judged(make_domain(4, seed=5))
    options = TRAINING.model_copy(update={"epochs": 1})
    train_student(taught, source, options, fabric=fabric, checkpoint=checkpoint)
    data = LabelledSubtomograms(
        source.source, labels=source.labels[::-1], class_names=source.class_names
    )
    with pytest.warns(UserWarning, match="it is of other data"):
        train_student(taught, data, options, fabric=fabric, checkpoint=checkpoint)


def test_of_a_stream_no_particle_comes_twice(make_domain, fabric):
    source = simulated(make_domain, 16)
    asked = []

    def read_mixed(rows, noise_from, snr):
        asked.append((list(rows), list(noise_from)))
        return LabelledSubtomograms.read_mixed(source, rows, noise_from, snr)

    source.read_mixed = read_mixed
    options = TRAINING.model_copy(update={"epochs": 2, "particles_per_epoch": 24})
    train_student(judged(make_domain(4, seed=5)), source, options, fabric=fabric)
    rows = [row for batch, _ in asked for row in batch]
    assert sorted(rows) == list(range(48))
    assert all(batch == noise for batch, noise in asked)


@pytest.mark.parametrize(
    ("n_judged", "n_simulated", "of_sixteen"),
    [(1, 60, 1), (4, 24, 4), (20, 24, 8)],  # 3 of 180, 12 of 72, 60 of 72 particles
)
def test_judged_particles_come_twice_an_epoch(
    make_domain, fabric, monkeypatch, n_judged, n_simulated, of_sixteen
):
    """But at least one, and at most half, of a batch are judged."""
    taught = judged(make_domain(n_judged, seed=5))
    asked = []
    read = taught.data.read
    monkeypatch.setattr(taught.data, "read", lambda rows: asked.append(len(rows)) or read(rows))
    options = StudentTraining(epochs=1, batch_size=16, snr_range=(0.5, 2.0))
    train_student(taught, simulated(make_domain, n_simulated), options, fabric=fabric)
    assert set(asked) == {of_sixteen}


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_batch_always_holds_both_kinds(make_domain, fabric, share):
    options = TRAINING.model_copy(update={"epochs": 1, "batch_size": 4, "judged_share": share})
    _, history = train_student(
        judged(make_domain(3, seed=5)), simulated(make_domain, 3), options, fabric=fabric
    )
    assert np.isfinite([history[0]["loss_judged"], history[0]["loss_simulated"]]).all()


class TestWhatDoesNotFit:
    def test_other_classes(self, make_domain, fabric):
        data = make_domain(4, seed=5)
        taught = SoftLabelled(data.unlabelled(), np.full((12, 2), 0.5))
        with pytest.raises(ConfigError, match="differ in classes"):
            train_student(taught, simulated(make_domain, 4), TRAINING, fabric=fabric)

    def test_labels_of_other_particles(self, make_domain):
        with pytest.raises(ConfigError, match="labels of other particles"):
            SoftLabelled(make_domain(4).unlabelled(), np.full((11, 3), 1 / 3))

    def test_another_box(self, make_domain, fabric):
        taught = judged(make_domain(4, box=26))
        with pytest.raises(MismatchError, match="box"):
            train_student(taught, simulated(make_domain, 4), TRAINING, fabric=fabric)

    def test_a_range_that_is_none(self):
        with pytest.raises(ValidationError, match="snr_range"):
            StudentTraining(snr_range=(0.5, 0.1))
