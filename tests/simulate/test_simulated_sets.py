"""Sets on disk: configuration, round trip, interruption, damage."""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import killable
import tomadapt.simulate.dataset.making as module
from tomadapt.acquisition import BATCH_A, BATCH_B, Acquisition
from tomadapt.data.subtomograms import LabelledSubtomograms, standardise
from tomadapt.errors import ConfigError, InputError, MismatchError, OutputError
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.simulate.dataset import (
    SimulatedVolumes,
    SimulationConfig,
    make_templates,
    open_set,
    simulate_set,
)
from tomadapt.simulate.randomness import draw_poses
from tomadapt.simulate.simulator import Simulator

SETTINGS: dict[str, Any] = {
    "classes": ["apoferritin", "null", "tric"],
    "acquisition": {
        "name": "few",
        "defocus_um": 5.0,
        "tilt_angles_deg": {"first": -60, "last": 60, "step": 15},
    },
    "per_class": 6,
    "snr": 0.1,
    "seed": 3,
    "box": 24,
}


def config(**changes: Any) -> SimulationConfig:
    return SimulationConfig.model_validate(SETTINGS | changes)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shards a class: of 4 and 2 particles."""
    monkeypatch.setattr(module, "SHARD", 4)


class Made(NamedTuple):
    path: Path
    data: LabelledSubtomograms


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sets") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD", 4)
        simulate_set(config(), path)
    return path


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Made:
    """A fresh copy, to be damaged at will."""
    path = tmp_path / "set"
    shutil.copytree(finished, path)
    return Made(path, open_set(path))


def shards(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.glob("shard-*"))}


def volumes_of(data: LabelledSubtomograms) -> SimulatedVolumes:
    assert isinstance(data.source, SimulatedVolumes)
    return data.source


# --- configuration


def test_classes_as_a_list_as_paths_and_as_a_table() -> None:
    assert config().classes == {"apoferritin": "apoferritin", "null": "null", "tric": "tric"}
    assert config(classes=["models/1bxn.pdb.gz", "my.map", "x.cif"]).classes == {
        "1bxn": "models/1bxn.pdb.gz",
        "my": "my.map",
        "x": "x.cif",
    }
    assert config(classes={"big": "tric", "null": ""}).classes == {"big": "tric", "null": ""}


def test_acquisition_by_name() -> None:
    assert config(acquisition="batch_a").acquisition == BATCH_A
    assert config(acquisition=BATCH_B).acquisition == BATCH_B


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["tric", "tric"]}, "each class once; repeated: tric"),
        ({"classes": ["null"]}, "at least one class with a structure"),
        ({"classes": []}, "at least one class with a structure"),
        ({"classes": {}}, "at least one class with a structure"),
        ({"snr": 0}, "greater than 0"),
        ({"snr": -0.1}, "greater than 0"),
        ({"snr": math.nan}, "snr"),
        ({"snr": math.inf}, "snr"),
        ({"box": 23}, "box"),
        ({"box": 65}, "box"),
        ({"per_class": 0}, "per_class"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"voxel_size_A": 0}, "voxel_size_A"),
        ({"max_shift_fraction": 0.5}, "max_shift_fraction"),
        ({"acquisition": "batch_c"}, "unknown acquisition 'batch_c'; named ones: batch_a"),
        ({"acquisition": {"defocus_um": 5, "tilt_angles_deg": [60, 0, -60]}}, "increase strictly"),
        ({"acquisition": {"defocus_um": 5, "tilt_angles_deg": [0]}}, "at least 3"),
        ({"acquisition": {"defocus_um": 5, "tilt_angles_deg": [-90, 0, 90]}}, "less than 180"),
        ({"acquisition": {"defocus_um": 5, "tilt_angles_deg": {"from": 1}}}, "first, last, step"),
        ({"particles": 3}, "particles"),
        ({"neighbours": -1}, "neighbours"),
        ({"neighbours": 13}, "neighbours"),
        ({"neighbours": 1.5}, "neighbours"),
    ],
)
def test_bad_configurations(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**change)


def test_two_files_of_one_name_are_two_classes_of_one_label() -> None:
    # Once the second silently replaced the first, and the set had a class less.
    with pytest.raises(ValidationError, match="each class once; repeated: 1bxn"):
        config(classes=["a/1bxn.pdb", "b/1bxn.cif.gz"])


def test_what_a_set_is_identified_by() -> None:
    base = config()
    assert config(snr=0.5).identity == base.identity
    for change in (
        {"folder": Path("elsewhere")},
        {"seed": 4},
        {"per_class": 7},
        {"box": 25},
        {"acquisition": "batch_a"},
        {"neighbours": 1},
        {"acquisition": SETTINGS["acquisition"] | {"b_factor_A2": 100}},
        {"acquisition": SETTINGS["acquisition"] | {"exposure_per_tilt_e_per_A2": 2}},
    ):
        assert config(**change).identity != base.identity
    assert json.loads(json.dumps(base.identity)) == base.identity


FIRST_KEYS = {
    "classes",
    "folder",
    "acquisition",
    "per_class",
    "seed",
    "box",
    "voxel_size_A",
    "resolution_A",
    "max_shift_fraction",
    "weighting",
}
FIRST_ACQUISITION_KEYS = {
    "name",
    "voltage_kv",
    "spherical_aberration_mm",
    "defocus_um",
    "astigmatism_um",
    "astigmatism_angle_deg",
    "amplitude_contrast",
    "tilt_angles_deg",
    "mtf",
    "noise_before_ctf",
}


def test_identities_of_sets_of_the_first_version_stay() -> None:
    """Fields of later versions are left out at their defaults, so old sets are still known."""
    assert set(config().identity) == FIRST_KEYS
    assert set(config().identity["acquisition"]) == FIRST_ACQUISITION_KEYS
    assert set(config(neighbours=2).identity) == FIRST_KEYS | {"neighbours"}
    exposed = SETTINGS["acquisition"] | {"exposure_per_tilt_e_per_A2": 2}
    assert set(config(acquisition=exposed).identity["acquisition"]) == FIRST_ACQUISITION_KEYS | {
        "exposure_per_tilt_e_per_A2"
    }
    for settings in (config(), config(neighbours=2, acquisition=exposed)):
        assert SimulationConfig.model_validate(settings.model_dump()) == settings
        assert SimulationConfig.model_validate_json(settings.model_dump_json()) == settings


# --- round trip


def test_round_trip(made: Made) -> None:
    """What is read is what a simulator makes, to half precision."""
    data, settings = made.data, config()
    assert len(data) == 18
    assert data.class_names == ("apoferritin", "null", "tric")
    assert data.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert (data.box, data.voxel_size_A) == (24, 9.2)
    assert data.acquisition == settings.acquisition
    assert volumes_of(data).snr == 0.1
    simulator = Simulator(
        make_templates(settings), settings.acquisition, voxel_size_A=9.2, seed=settings.seed
    )
    for row, (name, index) in {
        0: ("apoferritin", 0),
        5: ("apoferritin", 5),
        16: ("tric", 4),
    }.items():
        particle = simulator.particles(name, [index])
        expected = particle.signal + particle.noise / 0.1**0.5
        torch.testing.assert_close(data.source.read([row]), expected, rtol=2e-3, atol=5e-3)
        torch.testing.assert_close(data.read([row]), standardise(expected), rtol=0, atol=5e-3)
    null = data.source.read([7])
    expected = simulator.particles("null", [1]).noise / 0.1**0.5
    torch.testing.assert_close(null, expected, rtol=2e-3, atol=5e-3)


def test_poses_and_provenance_are_kept(made: Made) -> None:
    with np.load(made.path / "shard-00001.npz") as shard:
        assert shard["index_in_class"].tolist() == [4, 5]
        assert shard["labels"].tolist() == [0, 0]
        assert shard["rotations"].shape == (2, 3, 3)
        assert (shard["variance_ratio"] > 1).all()
    with np.load(made.path / "shard-00002.npz") as shard:
        assert np.isnan(shard["variance_ratio"]).all()  # null
    meta = json.loads((made.path / "set.json").read_text())
    assert meta["shard_sizes"] == [4, 2] * 3
    assert meta["snr_before_ctf_over_snr"] > 1
    assert meta["versions"]["torch"] == torch.__version__
    assert SimulationConfig.model_validate(meta["config"]) == config()


def test_order_of_indices_is_respected(made: Made) -> None:
    source = made.data.source
    assert torch.equal(source.read([17, 0, 3, 4]), source.read(np.arange(18))[[17, 0, 3, 4]])


def test_another_snr(made: Made) -> None:
    at_1, at_4 = (open_set(made.path, snr=snr).source.read([0, 13]) for snr in (1.0, 4.0))
    parts = np.load(made.path / "shard-00000.npy")[0].astype(np.float32)
    np.testing.assert_allclose(at_1[0], parts[0] + parts[1], atol=1e-5)
    np.testing.assert_allclose(at_4[0], parts[0] + parts[1] / 2, atol=1e-5)
    assert open_set(made.path, snr=1.0).class_names == made.data.class_names


@pytest.mark.parametrize("snr", [0.0, -1.0, math.nan, math.inf])
def test_an_snr_is_positive(made: Made, snr: float) -> None:
    # 0 once meant the set's own SNR, without a word.
    with pytest.raises(ConfigError, match="positive"):
        open_set(made.path, snr=snr)


def test_mixing_signal_and_noise_of_different_particles(made: Made) -> None:
    source = volumes_of(made.data)
    mixed = source.mix([0, 9], [17, 2], torch.tensor([0.25, 1.0]))
    signal = np.load(made.path / "shard-00000.npy")[0, 0].astype(np.float32)
    noise = np.load(made.path / "shard-00005.npy")[1, 1].astype(np.float32)
    np.testing.assert_allclose(mixed[0], signal + 2 * noise, atol=1e-5)
    other = np.load(made.path / "shard-00000.npy")[2, 1].astype(np.float32)
    np.testing.assert_allclose(mixed[1], other, atol=1e-6)  # null has no signal
    standard = made.data.read_mixed([0, 9], [17, 2], np.array([0.25, 1.0]))
    torch.testing.assert_close(standard, standardise(mixed))


def test_never_loaded_whole(made: Made) -> None:
    source = volumes_of(made.data)
    source.read([0, 8, 17])
    assert len(source._shards) == 6
    for shard in source._shards:
        assert isinstance(shard, np.memmap)
        assert shard.mode == "r"
        assert shard.dtype == np.float16


def test_a_particle_does_not_depend_on_shards_or_classes(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 5)
    fewer = simulate_set(config(classes=["tric"], per_class=5), tmp_path / "fewer")
    ours = made.data.source.read([12, 14, 16])
    torch.testing.assert_close(fewer.source.read([0, 2, 4]), ours, rtol=2e-3, atol=5e-3)


def test_progress_counts_every_particle(made: Made, tmp_path: Path) -> None:
    fresh: list[int] = []
    simulate_set(config(per_class=5), tmp_path / "fresh", progress=fresh.append)
    assert fresh == [4, 1] * 3
    kept: list[int] = []
    simulate_set(config(), made.path, progress=kept.append)
    assert sum(kept) == 18


# --- interruption


def test_a_lost_or_unfinished_shard_is_made_again(made: Made) -> None:
    before = shards(made.path)
    (made.path / "set.json").unlink()
    (made.path / "shard-00000.npz").unlink()  # killed between the two files of a shard
    (made.path / "shard-00002.npy").unlink()
    (made.path / "shard-00003.npz").unlink()
    (made.path / "shard-00003.npy").write_bytes(before["shard-00003.npy"][:1000])
    (made.path / ".4242.shard-00005.npy").write_bytes(b"half a shard")  # a killed writer's
    kept = (made.path / "shard-00001.npy").stat().st_mtime_ns
    data = simulate_set(config(), made.path)
    assert shards(made.path) == before
    assert (made.path / "shard-00001.npy").stat().st_mtime_ns == kept
    assert len(data) == 18


def test_voxels_lost_after_labels_are_made_again(made: Made) -> None:
    # The labels alone once passed for a whole shard: the set was finished and could not be read.
    before = shards(made.path)
    (made.path / "shard-00004.npy").unlink()
    simulate_set(config(), made.path).source.read([12])
    assert shards(made.path) == before


def test_an_error_in_mid_run_leaves_no_set_and_is_resumed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"

    def stop(_: int) -> None:
        if len(list(out.glob("*.npz"))) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_set(config(), out, progress=stop)
    assert len(list(out.glob("*.npz"))) == 3
    with pytest.raises(InputError, match=r"got an interrupted simulation.*run the same"):
        open_set(out)
    simulate_set(config(), out)
    assert shards(out) == shards(finished)


def test_kill_9_in_mid_run_and_the_same_command_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = tmp_path / "simulate.toml"
    toml.write_text(
        'classes = ["apoferritin", "null"]\nper_class = 128\nsnr = 0.1\nbox = 24\nseed = 1\n'
        "[acquisition]\ndefocus_um = 5.0\n"
        "tilt_angles_deg = { first = -60, last = 60, step = 10 }\n"
    )
    out = tmp_path / "set"
    command = ["simulate", toml, "--out", out, "--device", "cpu"]
    process = killable.start(*command, log=tmp_path / "log")
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("shard-*.npz")) and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 1 <= len(list(out.glob("shard-*.npz"))) < 4
    assert not (out / "set.json").exists()

    again = killable.start(*command, log=tmp_path / "log")
    again.join(timeout=120)
    assert again.exitcode == 0, (tmp_path / "log").read_text()
    assert len(open_set(out)) == 256

    monkeypatch.setattr(module, "SHARD", 64)
    whole = tmp_path / "whole"
    settings = SimulationConfig.model_validate(json.loads((out / "set.json").read_text())["config"])
    simulate_set(settings, whole)
    assert shards(out) == shards(whole)
    assert (out / "set.json").read_bytes() == (whole / "set.json").read_bytes()


# --- what can be wrong with a folder


def test_another_configuration(made: Made) -> None:
    before = shards(made.path)
    with pytest.raises(MismatchError, match=r"a difference in seed.*choose another --out"):
        simulate_set(config(seed=4), made.path)
    assert shards(made.path) == before


def test_a_set_of_the_first_version_is_taken_up(made: Made) -> None:
    before = shards(made.path)
    for keys, table in ((FIRST_KEYS, None), (FIRST_ACQUISITION_KEYS, "acquisition")):
        written = json.loads((made.path / "config.json").read_text())
        assert set(written[table] if table else written) - {"templates"} == keys
    (made.path / "set.json").unlink()
    (made.path / "shard-00002.npz").unlink()
    simulate_set(config(), made.path)
    assert shards(made.path) == before


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"neighbours": 1}, "neighbours"),
        ({"acquisition": SETTINGS["acquisition"] | {"b_factor_A2": 100}}, "acquisition"),
    ],
)
def test_later_fields_make_another_configuration_both_ways(
    made: Made, tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    # What is left out at its default stands in one of the two files alone.
    with pytest.raises(MismatchError, match=rf"a difference in {name}"):
        simulate_set(config(**change), made.path)
    small: dict[str, Any] = {"classes": ["apoferritin"], "per_class": 1}
    simulate_set(config(**small, **change), tmp_path / "other")
    with pytest.raises(MismatchError, match=rf"a difference in {name}"):
        simulate_set(config(**small), tmp_path / "other")


def ball(radius: float) -> np.ndarray:
    r = np.arange(24) - 12
    distance = np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2)
    return np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Path, Path, dict[str, Any]]:
    """A set, and its structure in another folder than the set was simulated with."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    write_mrc(before / "ball.mrc", ball(6), voxel_size_A=10.0)
    own: dict[str, Any] = {"per_class": 2, "classes": {"ball": str(before / "ball.mrc")}}
    simulate_set(config(**own), tmp_path / "set")
    before.rename(after)
    return (
        tmp_path / "set",
        after / "ball.mrc",
        own | {"classes": {"ball": str(after / "ball.mrc")}},
    )


def test_a_set_is_finished_where_its_structures_were_moved(moved: Any) -> None:
    folder, _, now = moved
    before = shards(folder)
    assert len(simulate_set(config(**now), folder)) == 2
    (folder / "set.json").unlink()
    (folder / "shard-00000.npz").unlink()
    simulate_set(config(**now), folder)
    assert shards(folder) == before


def test_another_structure_in_the_moved_ones_place_is_refused(moved: Any) -> None:
    folder, structure, now = moved
    write_mrc(structure, ball(8), voxel_size_A=10.0)
    with pytest.raises(MismatchError, match="a difference in structure ball"):
        simulate_set(config(**now), folder)


def test_without_digests_the_paths_of_structures_count(moved: Any) -> None:
    """Sets of the first version have none."""
    folder, _, now = moved
    record = json.loads((folder / "config.json").read_text())
    del record["templates"]
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(MismatchError, match="a difference in classes"):
        simulate_set(config(**now), folder)


def test_neighbours_are_stored_with_the_signal(made: Made, tmp_path: Path) -> None:
    """At every SNR they keep their ratio to the particle; the noise is that without them."""
    crowded = simulate_set(config(neighbours=2, per_class=2), tmp_path / "crowded")
    plain = np.load(made.path / "shard-00000.npy")
    found = np.load(tmp_path / "crowded" / "shard-00000.npy")
    np.testing.assert_array_equal(found[:2, 1], plain[:2, 1])
    extra = found[:2, 0].astype(np.float32) - plain[:2, 0]
    assert np.abs(extra).max() > 0.1
    null = np.load(tmp_path / "crowded" / "shard-00001.npy")[:, 0]
    assert (null.astype(np.float32).std(axis=(1, 2, 3)) > 0.05).all()
    for snr in (0.1, 10.0):
        read = open_set(tmp_path / "crowded", snr=snr).source.read([0])
        alone = open_set(made.path, snr=snr).source.read([0])
        np.testing.assert_allclose(read - alone, extra[:1], atol=5e-3)
    assert crowded.source.meta["config"]["neighbours"] == 2


def test_another_snr_is_no_other_configuration(made: Made) -> None:
    before = shards(made.path)
    assert volumes_of(simulate_set(config(snr=0.5), made.path)).snr == 0.5
    assert shards(made.path) == before


def test_no_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got no set.json.*check the path"):
        open_set(tmp_path)


def test_an_unfinished_set(made: Made) -> None:
    (made.path / "set.json").unlink()
    with pytest.raises(InputError, match="interrupted simulation"):
        open_set(made.path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": "tomadapt-set-99"}', "another format; expected tomadapt-set-1; got tomadapt"),
        ("{}", "another format"),
        ("[]", "is damaged"),
        ("{", "is damaged"),
    ],
)
def test_another_format(made: Made, content: str, message: str) -> None:
    (made.path / "set.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_set(made.path)


def test_a_damaged_config_is_no_traceback(made: Made) -> None:
    (made.path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json is damaged.*delete that folder"):
        simulate_set(config(), made.path)


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"no array at all", 5000])
def test_damaged_voxels(made: Made, content: bytes | int | None) -> None:
    # An empty file once escaped as EOFError.
    shard = made.path / "shard-00003.npy"
    whole = shard.read_bytes()
    shard.unlink()
    if content is not None:
        shard.write_bytes(whole[:content] if isinstance(content, int) else content)
    data = open_set(made.path)
    with pytest.raises(InputError, match=r"is damaged; expected 6 readable shards.*simulate it"):
        data.read([0])


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"no archive", 200])
def test_damaged_labels(made: Made, content: bytes | int | None) -> None:
    # Once a traceback of numpy or zipfile.
    shard = made.path / "shard-00003.npz"
    whole = shard.read_bytes()
    shard.unlink()
    if content is not None:
        shard.write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(InputError, match="is damaged; expected 6 readable shards"):
        open_set(made.path)


def test_a_disk_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    needed = 18 * 2 * 24**3 * 2
    out = tmp_path / "set"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, needed - 1))
    with pytest.raises(OutputError, match=r"not enough room.*ask for fewer particles"):
        simulate_set(config(), out)
    assert list(tmp_path.rglob("*")) in ([], [out])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, needed))
    assert len(simulate_set(config(), out)) == 18


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        simulate_set(config(), tmp_path / "file" / "set")


def test_structures_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(Exception, match="does not fit into the box"):
        simulate_set(config(classes=["ribosome_80s"]), out)
    assert not out.exists()


def test_the_particle_table_is_what_was_drawn(made: Made) -> None:
    table = made.data.source.particle_table()
    settings = config()
    assert (table["labels"] == made.data.labels).all()
    assert table["rotations"].shape == (18, 3, 3)
    name = next(iter(settings.classes))
    rotations, shifts = draw_poses(
        settings.seed, name, range(2), max_shift_voxels=settings.max_shift_fraction * settings.box
    )
    np.testing.assert_array_equal(table["rotations"][:2], rotations)
    np.testing.assert_array_equal(table["shifts"][:2], shifts)


def test_even_noise_is_as_strong_at_the_faces(tmp_path, one_thread):
    """A set's noise fades towards its faces, in x and z; with ``even_noise`` it does not."""
    config = SimulationConfig(
        classes={"null": "null", "apoferritin": "apoferritin"},
        acquisition=Acquisition(name="even", defocus_um=4.0),
        per_class=24,
        snr=1.0,
        box=24,
        voxel_size_A=16.0,
        resolution_A=20.0,
    )
    fading, even = (
        simulate_set(config.model_copy(update={"even_noise": value}), tmp_path / str(value))
        for value in (False, True)
    )
    profiles = []
    for data in (fading, even):
        noise = data.without_classes(["apoferritin"]).source.read(np.arange(24))
        variance = noise.square().mean(dim=(0, 2)).numpy()  # over particles and y: [z, x]
        edge = np.concatenate([variance[:2].ravel(), variance[-2:].ravel()]).mean()
        profiles.append(edge / variance[8:16, 8:16].mean())
    assert profiles[0] < 0.6
    assert profiles[1] == pytest.approx(1, abs=0.15)
