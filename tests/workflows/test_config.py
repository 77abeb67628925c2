"""Configuration files: what they mean, and what is said of mistakes in them."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tomadapt.acquisition import BATCH_A, BATCH_B, Acquisition
from tomadapt.errors import ConfigError, InputError
from tomadapt.learn.adversarial import AdversarialOptions
from tomadapt.learn.source import SourceTraining
from tomadapt.simulate.dataset import SimulationConfig
from tomadapt.workflows.config import FileDomain, RunConfig, SimulatedDomain, load_config, parse
from tomadapt.workflows.run import demo_config

RUN: dict[str, Any] = {
    "structures": {
        "classes": ["apoferritin", "null"],
        "box": 24,
        "voxel_size_A": 16.0,
        "resolution_A": 20.0,
    },
    "source": {"acquisition": "batch_b", "snr": 0.5, "per_class": 8, "held_out_per_class": 2},
    "target": {"acquisition": {"defocus_um": 3.0}, "snr": 0.1, "per_class": 5},
}


def changed(*keys: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(RUN)
    table = data
    for key in keys[:-1]:
        table = table.setdefault(key, {})
    table[keys[-1]] = value
    return data


class TestRunConfig:
    def test_simulations(self) -> None:
        config = parse(RUN, RunConfig, where="here").with_seed(3)
        source, target = config.source_simulation(), config.target_simulation()
        assert target is not None
        assert (source.seed, target.seed) == (6, 7)
        assert (source.per_class, target.per_class) == (10, 5)
        assert (source.snr, target.snr) == (0.5, 0.1)
        assert source.acquisition == BATCH_B
        assert target.acquisition == Acquisition(defocus_um=3.0)
        for simulation in (source, target):
            assert simulation.classes == {"apoferritin": "apoferritin", "null": "null"}
            assert (simulation.box, simulation.voxel_size_A, simulation.resolution_A) == (
                24,
                16.0,
                20.0,
            )

    def test_defaults_of_the_stages(self) -> None:
        config = parse(RUN, RunConfig, where="here")
        assert config.train == SourceTraining()
        assert config.adapt == AdversarialOptions()
        assert config.seed == 0

    def test_target_from_a_file(self) -> None:
        data = changed("target", value={"path": "x.npy", "contrast": "negative"})
        config = parse(data, RunConfig, where="here")
        assert config.target == FileDomain(path=Path("x.npy"), contrast="negative")
        assert config.target_simulation() is None

    @pytest.mark.parametrize(
        "target", [SimulatedDomain.model_validate(RUN["source"]), FileDomain(path=Path("x"))]
    )
    def test_target_as_an_object(self, target: SimulatedDomain | FileDomain) -> None:
        config = RunConfig.model_validate(RUN | {"target": target})
        assert config.target == target

    def test_neighbours_reach_the_simulation_of_their_domain(self) -> None:
        config = parse(changed("target", "neighbours", value=3), RunConfig, where="here")
        source, target = config.source_simulation(), config.target_simulation()
        assert target is not None
        assert (source.neighbours, target.neighbours) == (0, 3)
        assert RunConfig.model_validate_json(config.model_dump_json()) == config
        # Runs of versions without neighbours are still known by their configuration.
        assert "neighbours" not in config.model_dump()["source"]
        assert "even_noise" not in config.model_dump()["source"]
        even = parse(changed("source", "even_noise", value=True), RunConfig, where="here")
        assert even.source_simulation().even_noise
        with pytest.raises(ConfigError, match=r"target\.neighbours"):
            parse(changed("target", "neighbours", value=-1), RunConfig, where="here")

    def test_survives_json(self) -> None:
        config = parse(RUN, RunConfig, where="here")
        assert RunConfig.model_validate_json(config.model_dump_json()) == config

    def test_demo(self) -> None:
        config = demo_config(5)
        target = config.target_simulation()
        assert target is not None
        assert config.seed == 5
        assert config.source_simulation().acquisition == BATCH_B
        assert target.acquisition == BATCH_A
        assert "null" in target.classes
        assert len(target.classes) == 8
        assert config.train.snr_range == (config.source.snr, config.source.snr)


class TestMistakes:
    """One line that names file, table and key as they are written."""

    @pytest.mark.parametrize(
        ("keys", "value", "message"),
        [
            (("trian",), {}, "run.toml: unknown key 'trian'; expected 'train'?. Remedy: mend"),
            (("target", "snrr"), 1, "run.toml: unknown key 'target.snrr'; expected 'snr'?"),
            (("train", "epoch"), 1, "run.toml: unknown key 'train.epoch'; expected 'epochs'?"),
            (
                ("source", "acquisition"),
                {"defocus_um": 1.0, "tilt_angles": [1, 2, 3]},
                "unknown key 'source.acquisition.tilt_angles'; expected 'tilt_angles_deg'?",
            ),
            # A key of another table is suggested; otherwise only keys of this one are listed.
            (("structures", "batchsize"), 3, "'structures.batchsize'; expected 'batch_size'?"),
            (
                ("structures", "zzz"),
                3,
                "'structures.zzz'; expected one of box, classes, folder, resolution_A, "
                "voxel_size_A. Remedy",
            ),
            (
                ("target",),
                {"path": "x", "zzz": 3},
                "unknown key 'target.zzz'; expected one of acquisition, contrast, even_noise, "
                "held_out_per",
            ),
            (("target",), {"path": "x", "contrast": "dark"}, "run.toml: target.contrast: Input"),
            (("target",), {"path": 3}, "run.toml: target.path: "),
            (("target",), "x.npy", "run.toml: target: Input should be a valid dictionary"),
            (("target",), {}, "run.toml: target.acquisition: Field required. Remedy: add it"),
            (("structures",), {}, "run.toml: structures.classes: Field required"),
            (("structures", "classes"), "tric", "run.toml: structures.classes: Input should be"),
            (("structures", "classes"), {"a": 3}, "run.toml: structures.classes.a: Input should"),
            (("structures", "classes"), ["tric", 3], "run.toml: structures.classes.1: Input"),
            (("structures", "classes"), ["null"], "run.toml: structures.classes: at least one"),
            (("structures", "box"), 23, "structures.box: Input should be greater than or equal"),
            (("structures", "voxel_size_A"), math.nan, "structures.voxel_size_A: Input should"),
            (("target", "acquisition"), "batch_c", "target.acquisition: unknown acquisition"),
            (("source", "acquisition"), "batch_c", "source.acquisition: unknown acquisition"),
            (
                ("source", "acquisition"),
                {"defocus_um": 1.0, "tilt_angles_deg": [2, 1, 0]},
                "run.toml: source.acquisition: tilt_angles_deg must increase strictly",
            ),
            (("source", "snr"), math.inf, "run.toml: source.snr: Input should be a finite"),
            (("source", "snr"), "0,1", "run.toml: source.snr: Input should be a valid number"),
            (("source", "per_class"), 1, "source.per_class: Input should be greater than or equ"),
            (("adapt", "statistics"), "mine", "run.toml: adapt.statistics: Input should be 'tar"),
            (("seed",), -1, "run.toml: seed: Input should be greater than or equal to 0; got -1"),
        ],
    )
    def test_is_named(self, keys: tuple[str, ...], value: Any, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(changed(*keys, value=value), RunConfig, where="run.toml")
        assert message in str(caught.value)
        assert "Remedy: " in str(caught.value)
        assert not any(word in str(caught.value) for word in ("function-", "pydantic", "dict["))

    def test_missing_table(self) -> None:
        data = {k: v for k, v in RUN.items() if k != "source"}
        with pytest.raises(ConfigError, match=r"run\.toml: source: Field required\. Remedy: add"):
            parse(data, RunConfig, where="run.toml")

    def test_nothing_at_all(self) -> None:
        with pytest.raises(ConfigError, match="structures: Field required"):
            parse({}, RunConfig, where="run.toml")

    def test_misspelling_comes_before_what_it_leaves_missing(self) -> None:
        """Regression: `per_clas = 8` was answered with "per_class: Field required"."""
        data = {"acquisition": "batch_b", "classes": ["tric"], "snr": 0.1, "per_clas": 3}
        with pytest.raises(ConfigError, match=r"unknown key 'per_clas'; expected 'per_class'\?"):
            parse(data, SimulationConfig, where="x")


SIMULATION = """
acquisition = "batch_b"
per_class = 3
snr = 0.5
folder = "models"
[classes]
ribosome = "ribosome_70s"
mine = "maps/mine.mrc"
other = "other.pdb.gz"
elsewhere = "$TOMADAPT_TEST_HOME/x.cif"
home = "~/y.cif"
entry = "1bxn"
null = "null"
"""


class TestPaths:
    def test_are_relative_to_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TOMADAPT_TEST_HOME", "/data/here")
        monkeypatch.setenv("HOME", "/people/someone")
        (tmp_path / "a.toml").write_text(SIMULATION)
        (tmp_path / "other.pdb.gz").touch()
        config = load_config(tmp_path / "a.toml", SimulationConfig)
        assert config.folder == tmp_path / "models"
        assert config.classes == {
            "ribosome": "ribosome_70s",
            "mine": str(tmp_path / "maps/mine.mrc"),
            "other": str(tmp_path / "other.pdb.gz"),
            "elsewhere": "/data/here/x.cif",
            "home": "/people/someone/y.cif",
            "entry": "1bxn",
            "null": "null",
        }

    def test_a_file_name_may_be_one_in_the_folder(self, tmp_path: Path) -> None:
        """Regression: a name with a dot was always taken for a file beside the configuration."""
        text = SIMULATION.split("[classes]", maxsplit=1)[0]
        (tmp_path / "a.toml").write_text(f'classes = ["1bxn.pdb.gz"]{text}')
        config = load_config(tmp_path / "a.toml", SimulationConfig)
        assert config.classes == {"1bxn": "1bxn.pdb.gz"}

    def test_list_of_structures(self, tmp_path: Path) -> None:
        text = SIMULATION.split("[classes]", maxsplit=1)[0]
        (tmp_path / "a.toml").write_text(f'classes = ["tric", "maps/mine.mrc"]{text}')
        config = load_config(tmp_path / "a.toml", SimulationConfig)
        assert config.classes == {"tric": "tric", "mine": str(tmp_path / "maps/mine.mrc")}

    def test_do_not_depend_on_where_one_stands(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Regression: a run begun as `run a.toml` was another one as `run /full/path/a.toml`."""
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.toml").write_text(SIMULATION)
        monkeypatch.chdir(tmp_path / "in")
        here = load_config(Path("a.toml"), SimulationConfig)
        monkeypatch.chdir(tmp_path)
        assert load_config(Path("in/a.toml"), SimulationConfig) == here
        assert load_config(tmp_path / "in" / "a.toml", SimulationConfig) == here

    def test_home_of_no_one_stays(self, tmp_path: Path) -> None:
        """Regression: `~name` of an unknown user was a traceback."""
        (tmp_path / "a.toml").write_text(SIMULATION.replace("models", "~no-such-user/m"))
        config = load_config(tmp_path / "a.toml", SimulationConfig)
        assert config.folder == tmp_path / "~no-such-user/m"


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="expected a TOML file; got nothing"):
            load_config(tmp_path / "no.toml", RunConfig)
        with pytest.raises(InputError, match="got a folder"):
            load_config(tmp_path, RunConfig)

    @pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2", b"\xff\xfe", b"[t\n"])
    def test_not_toml(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"a\.toml is not valid TOML; .*Remedy: mend"):
            load_config(tmp_path / "a.toml", RunConfig)

    @pytest.mark.skipif(os.name != "posix", reason="needs /proc")
    def test_unreadable(self) -> None:
        with pytest.raises((InputError, ConfigError)):
            load_config(Path("/proc/self/mem"), RunConfig)

    def test_acquisition_alone(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text(
            'name = "mine"\ndefocus_um = 3.5\ntilt_angles_deg = {first = -50, last = 50, step = 2}'
        )
        acquisition = load_config(tmp_path / "a.toml", Acquisition)
        assert (acquisition.name, len(acquisition.tilt_angles_deg)) == ("mine", 51)
