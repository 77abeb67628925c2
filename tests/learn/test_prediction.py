from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.prediction import Prediction, predict


def setup():
    torch.manual_seed(0)
    card = ModelCard(
        class_names=("a", "b"), box=24, voxel_size_A=10.0, network="default", acquisition=None
    )
    cubes = np.random.default_rng(0).normal(size=(70, 24, 24, 24)).astype(np.float32)
    return Model.new(card), Subtomograms(ArrayVolumes(cubes, 10.0))


def test_rows_follow_the_particles():
    model, data = setup()
    fabric = make_fabric("cpu")
    whole = predict(model, data, fabric=fabric)
    assert whole.probabilities.shape == (70, 2)
    assert whole.features.shape == (70, 128)
    np.testing.assert_allclose(whole.probabilities.sum(axis=1), 1, atol=1e-6)
    chosen = predict(model, data.subset([69, 3]), fabric=fabric)
    np.testing.assert_allclose(chosen.probabilities, whole.probabilities[[69, 3]], atol=1e-6)
    by_hand = model.classifier(torch.from_numpy(whole.features)).softmax(dim=1)
    np.testing.assert_allclose(by_hand.detach().numpy(), whole.probabilities, atol=1e-5)


def test_csv_has_one_row_a_particle_in_order(tmp_path):
    model, data = setup()
    prediction = predict(model, data, fabric=make_fabric("cpu"))
    path = tmp_path / "p.csv"
    prediction.write_csv(path)
    rows = list(csv.DictReader(path.open()))
    assert list(rows[0]) == ["index", "label", "probability", "a", "b", "cubes_digest"]
    assert [int(r["index"]) for r in rows] == list(range(70))
    assert [r["label"] for r in rows] == ["ab"[i] for i in prediction.labels]
    assert all(abs(float(r["a"]) + float(r["b"]) - 1) < 2e-4 for r in rows)


def test_npz_holds_features_too(tmp_path):
    model, data = setup()
    prediction = predict(model, data, fabric=make_fabric("cpu"))
    prediction.write(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as back:
        assert back["class_names"].tolist() == ["a", "b"]
        np.testing.assert_array_equal(back["features"], prediction.features)
        np.testing.assert_array_equal(back["labels"], prediction.labels)
    with pytest.raises(ConfigError, match=r"expected .csv or .npz; got .txt"):
        prediction.write(tmp_path / "p.txt")


def test_particles_from_files_of_their_own_keep_their_names(tmp_path):
    """Regression: p10 sorts before p2, and the table had nothing but the index."""
    import mrcfile

    from tomadapt.inputs.particles import open_target

    model, data = setup()
    folder = tmp_path / "cubes"
    folder.mkdir()
    for name in ("p1", "p2", "p10", "._p1"):
        mrcfile.write(folder / f"{name}.mrc", data.read([3])[0].numpy(), voxel_size=10.0)
    target = open_target(folder, contrast="positive")
    predict(model, target, fabric=make_fabric("cpu")).write(tmp_path / "p.csv")
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert [r["file"] for r in rows] == ["p1.mrc", "p10.mrc", "p2.mrc"]


def test_public_names_are_not_hidden_by_modules_of_the_same_name():
    """Regression: `tomadapt.predict` was the module once that had been imported."""
    import importlib
    import pkgutil

    import tomadapt

    modules = {m.name for m in pkgutil.walk_packages(tomadapt.__path__, "tomadapt.")}
    for name in modules - {"tomadapt.__main__"}:
        importlib.import_module(name)
    assert all(f"tomadapt.{name}" not in modules for name in tomadapt.__all__)
    assert callable(tomadapt.predict)


class TestOneSided:
    def prediction(self, labels: list[int]) -> Prediction:
        p = np.full((len(labels), 3), 0.05, np.float32)
        p[np.arange(len(labels)), labels] = 0.9
        return Prediction(("a", "b", "null"), p, np.zeros((len(labels), 4), np.float32))

    def test_nearly_all_of_one_class_is_told(self) -> None:
        told = self.prediction([2] * 39 + [0]).one_sided
        assert told is not None
        assert "39 of 40 particles are called null, with a mean probability of 0.90" in told

    def test_several_classes_or_few_particles_are_not(self) -> None:
        assert self.prediction([2] * 36 + [0] * 4).one_sided is None
        assert self.prediction([2] * 19).one_sided is None
