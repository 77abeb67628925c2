from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tomadapt.acquisition import BATCH_B
from tomadapt.errors import InputError, MismatchError, OutputError
from tomadapt.learn.model import Model, ModelCard


@pytest.fixture
def model():
    torch.manual_seed(0)
    card = ModelCard(
        class_names=("a", "b<c>"),
        box=24,
        voxel_size_A=10.0,
        network="default",
        acquisition=BATCH_B,
        training={"history": [{"epoch": 1, "loss": 0.5}]},
    )
    return Model.new(card)


def test_round_trip(model, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    back = Model.load(path)
    assert back.card == model.card
    assert all(torch.equal(model.state()[name], t) for name, t in back.state().items())
    assert not back.extractor.training


def test_card_says_what_the_model_expects(model, tmp_path):
    from safetensors import safe_open

    path = tmp_path / "m.safetensors"
    model.save(path)
    with safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["tomadapt"])
    wanted = {"class_names", "voxel_size_A", "box", "contrast", "normalisation", "acquisition"}
    assert wanted | {"package_version", "format"} <= card.keys()


def rewritten(path, out, change):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["tomadapt"])
    change(card)
    save_file(load_file(path), out, {"tomadapt": json.dumps(card)})
    return out


def test_another_format_is_refused(model, tmp_path):
    model.save(tmp_path / "m")
    old = rewritten(tmp_path / "m", tmp_path / "old", lambda c: c.update(format="tomadapt-model-0"))
    with pytest.raises(InputError, match="tomadapt-model-1; got tomadapt-model-0"):
        Model.load(old)


def test_card_that_does_not_fit_the_weights_is_refused(model, tmp_path):
    model.save(tmp_path / "m")
    for change in (
        lambda c: c.update(class_names=["a", "b", "c"]),
        lambda c: c.update(network="unheard-of"),
        lambda c: c.pop("box"),
    ):
        with pytest.raises(InputError, match="does not hold the weights"):
            Model.load(rewritten(tmp_path / "m", tmp_path / "bad", change))


def test_damaged_missing_and_foreign_files(model, tmp_path):
    path = tmp_path / "m"
    model.save(path)
    (tmp_path / "cut").write_bytes(path.read_bytes()[:1000])
    save_file({"x": torch.zeros(2)}, tmp_path / "foreign")
    for name, text in (
        ("cut", "not a model file"),
        ("none", "no model"),
        ("foreign", "no tomadapt card"),
    ):
        with pytest.raises(InputError, match=text):
            Model.load(tmp_path / name)


def test_save_into_a_missing_folder(model, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        model.save(tmp_path / "no" / "m")


def test_copy_shares_nothing(model):
    twin = model.copy(method="ada")
    with torch.no_grad():
        next(twin.extractor.parameters()).add_(1)
    assert not torch.equal(next(twin.extractor.parameters()), next(model.extractor.parameters()))
    assert (model.card.method, twin.card.method) == ("source_only", "ada")


def test_voxel_size_must_match_to_one_percent(make_domain, model):
    data = make_domain(2)
    model.require_matching(data, "the target")
    other = model.copy(voxel_size_A=10.3)
    with pytest.raises(MismatchError, match=r"10.3 Å \(model\); got 10 Å \(the target\)"):
        other.require_matching(data, "the target")
