"""What a summary warns of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tomadapt.acquisition import Acquisition
from tomadapt.classify import measured_acquisition
from tomadapt.classify.cubes import CubesOptions, classify_cubes, classify_cubes_by_network
from tomadapt.classify.judged import classify_by_likelihood
from tomadapt.classify.judged_summary import cubes_warnings, label_warnings, rejection_reasons
from tomadapt.classify.options import ClassifyOptions, SourceOptions
from tomadapt.classify.run import classify
from tomadapt.errors import ConfigError


@pytest.mark.parametrize(("defocus_um", "told"), [(-4.0, True), (4.0, False)])
def test_regression_overfocus_is_kept_in_the_summary(
    defocus_um: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said on the screen alone, and the contrast that rests on it was called measured."""
    monkeypatch.setattr(measured_acquisition, "hand_nats", lambda _: 0.0)
    monkeypatch.setattr(measured_acquisition, "expected_hand_nats", lambda _: 0.0)
    verdicts: Any = SimpleNamespace(optics=None, hand=1)
    acquisition = Acquisition(name="stated", defocus_um=defocus_um)
    texts = measured_acquisition.acquisition_warnings(verdicts, acquisition, 10.0)
    assert any("is overfocus" in text for text in texts) == told


@pytest.mark.parametrize("name", ["other", "unknown"])
def test_no_structure_has_the_name_of_a_kind(name: str) -> None:
    """Particles of no named structure are averaged under these names."""
    message = f"{name}.*is what particles of no named structure are called.*unlisted=maps/a.mrc"
    with pytest.raises(ValueError, match=message):
        CubesOptions(cubes=Path("cubes.mrc"), classes={name: "maps/a.mrc"})
    with pytest.raises(ValueError, match=message):
        SourceOptions(classes={name: "maps/a.mrc"}, acquisition=Acquisition(defocus_um=5.0))


@pytest.mark.parametrize(
    ("kind", "others", "why"),
    [
        ("gold", 10.0, "voxels at its centre are far stronger"),
        ("null", 0.0, "noise"),
        ("unknown", 10.0, "ribosome explains it in part"),
        ("membrane", 90.0, "bilayer explains it better"),
        ("membrane", 48.0, "bilayer is more probable than ribosome"),
    ],
)
def test_the_reason_names_what_decided(kind: str, others: float, why: str) -> None:
    verdicts: Any = SimpleNamespace(
        wanted=("ribosome",),
        label=np.array([-1]),
        kind=np.array([kind]),
        score=np.array([0.9]),
        best=np.array([0]),
        evidence=np.array([[50.0, others]]),
        best_rival=lambda _: ("bilayer", others),
        likeliest_other=lambda _: ("bilayer", others),
    )
    (reason,) = rejection_reasons(verdicts, None, {}).values()
    assert reason.startswith(f"{kind} (probability 0.90): {why}")
    assert reason.endswith(f"ribosome has 50 nats against noise, bilayer {others:.0f}")


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (["wanted"] * 6 + ["null"] * 4, False),  # empty cubes are no junk
        (["wanted"] * 8 + ["other"] * 2, False),
        (["wanted"] * 6 + ["membrane", "other", "unknown", "null"], True),
        (["membrane"] * 10, False),  # no rate is stated
    ],
)
def test_rates_of_cubes_with_much_junk_are_doubted(kinds: list[str], told: bool) -> None:
    verdicts: Any = SimpleNamespace(
        kind=np.array(kinds), label=np.array([0 if k == "wanted" else -1 for k in kinds])
    )
    assert bool(cubes_warnings(verdicts)) == told


@pytest.mark.parametrize(
    ("lead", "n", "told"), [(0.45, 9, False), (0.2, 9, True), (0.2, 4, False), (0.9, 9, False)]
)
def test_a_class_that_leads_too_little_is_doubted(lead: float, n: int, told: bool) -> None:
    """Sixteen proteasomes were called rubisco, the nearest of three absent structures."""
    verdicts: Any = SimpleNamespace(
        wanted=("rubisco", "hsp"),
        label=np.repeat([0, -1], [n, 30]),
        lead=np.full(n + 30, lead),
        expected_leads=np.array([0.5, 0.5]),
        dropped=(),
    )
    texts = label_warnings(verdicts, verdicts.label >= 0)
    assert any(t.startswith("9 particles are labelled rubisco, which leads") for t in texts) == told
    assert len(texts) == told


@pytest.mark.parametrize(
    ("mirror", "similarity", "told"),
    [
        (49.0, 0.6, True),
        (51.0, 0.6, True),
        (20.0, 0.6, False),
        (49.0, 0.998, False),  # such a structure does not show the hand
    ],
)
def test_regression_labels_that_show_no_hand_are_doubted(
    mirror: float, similarity: float, told: bool
) -> None:
    """A voxel size that is wrong by 30 %: two thirds of the labels were wrong, without a word."""
    evidence = np.tile([50.0, mirror, 3.0], (10, 1))
    verdicts: Any = SimpleNamespace(
        optics=None,
        hand=1,
        wanted=("ribosome",),
        label=np.zeros(10, dtype=int),
        evidence=evidence,
        mirror_similarity=(similarity,),
    )
    texts = measured_acquisition.acquisition_warnings(verdicts, None, 10.0)
    assert any("LABELS ARE PROBABLY WRONG" in text for text in texts) == told


@pytest.mark.parametrize("method", ["ada", "source_only"])
def test_regression_a_function_refuses_the_options_of_another_method(
    method: Any, tmp_path: Path
) -> None:
    """It trained for minutes before it failed, or recorded a method that was not used."""
    source = SourceOptions(classes={"tric": "tric"}, acquisition=Acquisition(defocus_um=5.0))
    options = ClassifyOptions(tomogram=Path("a.mrc"), source=source)
    assert options.method == "likelihood"
    cubes = CubesOptions(cubes=Path("a.mrc"), classes={"tric": "tric"}, source=source)
    other = {"method": method}
    with pytest.raises(ConfigError, match="another method"):
        classify(options, tmp_path / "out", cache=tmp_path)
    with pytest.raises(ConfigError, match="another method"):
        classify_by_likelihood(options.model_copy(update=other), tmp_path / "out")
    with pytest.raises(ConfigError, match="another method"):
        classify_cubes_by_network(cubes, tmp_path / "out", cache=tmp_path)
    with pytest.raises(ConfigError, match="another method"):
        classify_cubes(cubes.model_copy(update=other), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_regression_the_same_name_in_another_folder_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results were overwritten: the path was kept as it was typed."""
    source = SourceOptions(classes={"tric": "tric"}, acquisition=Acquisition(defocus_um=5.0))
    kept = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        options = ClassifyOptions(tomogram=Path("rec.mrc"), source=source)
        cubes = CubesOptions(cubes=Path("rec.mrc"), classes={"tric": "tric"})
        kept += [options.tomogram, cubes.cubes]
    assert len(set(kept)) == 2
    assert kept[0] == tmp_path / "a" / "rec.mrc"
