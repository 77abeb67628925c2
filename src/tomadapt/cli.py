"""The command line: parsing, and printing errors on one line. The work is done elsewhere.

Imports of the package's own modules are inside the commands, so that ``--help`` is immediate.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from tomadapt.errors import TomadaptError
    from tomadapt.subtomograms import LabelledSubtomograms

app = typer.Typer(
    name="tomadapt",
    help="Label macromolecules in cryo-electron tomograms with training data from elsewhere.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**31 - 1)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Snr = Annotated[
    float | None, typer.Option(help="Read a simulated set at this SNR instead of its own.")
]
VoxelSize = Annotated[
    float | None, typer.Option("--voxel-size", help="Å; where the target's file carries none.")
]
ContrastOption = Annotated[
    str, typer.Option(help="Sign of the target's density: measure, positive or negative.")
]
Recipe = Annotated[str, typer.Option(help="default, or paper (Lin et al. 2019).")]


@app.command()
def simulate(
    config: Annotated[Path, typer.Argument(help="TOML: classes, acquisition, per_class, snr, …")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Simulate a set of subtomograms; run again after an interruption to finish it."""
    from tomadapt.config import load_config
    from tomadapt.learn.engine import make_fabric
    from tomadapt.progress import progress_bar
    from tomadapt.simulate.dataset import SimulationConfig, simulate_set

    _require_one_process()
    settings = load_config(config, SimulationConfig)
    fabric = make_fabric(_device(device))
    with progress_bar("simulate", settings.n_particles, unit="subtomograms") as advance:
        simulate_set(settings, out, device=fabric.device, progress=advance)
    typer.echo(out)


@app.command()
def train(
    source: Annotated[Path, typer.Argument(metavar="SET", help="A simulated set.")],
    out: Out,
    recipe: Recipe = "default",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data; the recipe's own if not given.")
    ] = None,
    snr: Snr = None,
    snr_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Draw each sample's SNR between these.")
    ] = None,
    repair_noise: Annotated[
        bool, typer.Option("--repair-noise", help="Pair signal with fresh noise every epoch.")
    ] = False,
    augment: Annotated[
        bool, typer.Option("--augment", help="Half-turns that keep the wedge, and shifts.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train a source model (F and C) on a labelled set."""
    from tomadapt.config import parse
    from tomadapt.learn.engine import make_fabric
    from tomadapt.learn.source import PAPER_TRAINING, SourceTraining, train_source
    from tomadapt.progress import progress_bar

    base = PAPER_TRAINING if _one_of("--recipe", recipe, RECIPES) == "paper" else SourceTraining()
    chosen: dict[str, Any] = {"seed": seed}
    chosen |= {"repair_noise": repair_noise, "augment": augment, "snr_range": snr_range}
    if epochs is not None:
        chosen["epochs"] = epochs
    options = parse(base.model_dump() | chosen, SourceTraining, where="train")
    data = _open_set(source, snr)
    fabric = make_fabric(_device(device))
    _require_writable(out)
    if out.exists():
        _warn(f"{out} is there already and will be replaced")
    checkpoint = out.with_name(out.name + ".checkpoint.pt")
    with progress_bar("train", options.epochs, unit="epochs") as advance:
        model, history = train_source(
            data,
            options,
            fabric=fabric,
            checkpoint=checkpoint,
            on_epoch=lambda e: advance(1, f"loss {e['loss']:.3f}"),
        )
    if fabric.global_rank == 0:
        model.save(out)
        checkpoint.unlink(missing_ok=True)
        typer.echo(f"{out}: validation accuracy {history[-1]['validation_accuracy']:.3f}")


@app.command()
def adapt(
    model: Annotated[Path, typer.Argument(help="A source model.")],
    source: Annotated[Path, typer.Option(help="The set it was trained on.")],
    target: Annotated[
        Path, typer.Option(help="Set, .mrc stack, folder of .mrc cubes, .npy or .npz.")
    ],
    out: Out,
    method: Annotated[
        str, typer.Option(help="ada (3D-ADA), or another of docs/methods.md.")
    ] = "ada",
    recipe: Recipe = "default",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="ada: passes over the data; the recipe's own if none.")
    ] = None,
    source_snr: Snr = None,
    target_snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Adapt a source model to an unlabelled target, by 3D-ADA (Algorithm 1) or a baseline."""
    from tomadapt.config import parse
    from tomadapt.errors import ConfigError
    from tomadapt.learn.adversarial import PAPER_RECIPE, AdversarialOptions
    from tomadapt.learn.catalogue import METHODS, default_options
    from tomadapt.learn.engine import make_fabric
    from tomadapt.learn.model import Model
    from tomadapt.progress import progress_bar
    from tomadapt.simulate.dataset import require_independent

    base = PAPER_RECIPE if _one_of("--recipe", recipe, RECIPES) == "paper" else AdversarialOptions()
    chosen: dict[str, Any] = {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    adapting = tuple(name for name in METHODS if name not in ("source_only", "ada_paper_recipe"))
    _one_of("--method", method, adapting)
    if method != "ada" and (epochs is not None or recipe != "default"):
        raise ConfigError(
            f"method {method} has neither epochs nor recipes",
            expected="--epochs and --recipe with --method ada",
            remedy="leave them out",
        )
    if method == "ada":
        options: Any = parse(base.model_dump() | chosen, AdversarialOptions, where="adapt")
    else:
        options = default_options(method, seed=seed)
    source_model = Model.load(model)
    source_data = _open_set(source, source_snr)
    target_data = _open_target(target, voxel_size, contrast, target_snr)
    _require_source_model(source_model.card.method, model)
    require_independent(source_data, target_data)
    source_model.require_matching(source_data, "the source")
    source_model.require_matching(target_data, "the target")
    if source_model.card.training.get("source_data") != source_data.fingerprint:
        _warn(f"{model} was not trained on {source}, or not at this SNR")
    fabric = make_fabric(_device(device))
    _require_writable(out)
    if out.exists():
        _warn(f"{out} is there already and will be replaced")
    checkpoint = out.with_name(out.name + ".checkpoint.pt")
    with progress_bar("adapt", getattr(options, "epochs", 1), unit="epochs") as advance:
        adaptation = METHODS[method](source_model, options, fabric).fit(
            source_data,
            target_data,
            checkpoint=checkpoint,
            on_epoch=lambda e: advance(1, _epoch_note(e)),
        )
    if fabric.global_rank == 0:
        adaptation.model.save(out)
        checkpoint.unlink(missing_ok=True)
        if adaptation.warning:
            _warn(adaptation.warning)
        typer.echo(out)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A source or adapted model.")],
    target: Annotated[Path, typer.Argument(help="Set, .mrc stack, folder, .npy or .npz.")],
    out: Annotated[Path, typer.Option("--out", help="A .csv, or an .npz with features too.")],
    snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    device: Device = "auto",
) -> None:
    """Label every particle of a target, in order."""
    from tomadapt.learn.engine import make_fabric
    from tomadapt.learn.model import Model
    from tomadapt.prediction import predict as predict_all
    from tomadapt.prediction import require_prediction_file

    require_prediction_file(out)
    loaded = Model.load(model)
    data = _open_target(target, voxel_size, contrast, snr)
    fabric = make_fabric(_device(device))
    _require_writable(out)
    predict_all(loaded, data, fabric=fabric).write(out)
    typer.echo(f"{out}: {len(data)} particles")


@app.command()
def report(
    source_model: Annotated[Path, typer.Argument(help="The model before adaptation.")],
    adapted_model: Annotated[Path, typer.Argument(help="The model after it.")],
    source: Annotated[Path, typer.Option(help="The set the source model was trained on.")],
    target: Annotated[Path, typer.Option(help="The target; labels are used if it is a set.")],
    out: Annotated[Path, typer.Option("--out", help="An .html file.")],
    source_snr: Snr = None,
    target_snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    title: Annotated[str, typer.Option(help="Heading.")] = "tomadapt report",
) -> None:
    """Write a self-contained HTML report of a source and an adapted model on a target."""
    from tomadapt.errors import ConfigError
    from tomadapt.learn.model import Model
    from tomadapt.learn.statistics import TargetStatistics
    from tomadapt.report.collect import evaluate, report_content
    from tomadapt.report.page import write_report

    before, after = Model.load(source_model), Model.load(adapted_model)
    before.require_classes(after.card.class_names, "the adapted model")
    _require_source_model(before.card.method, source_model)
    source_data = _open_set(source, source_snr)
    labelled = (target / "set.json").exists()
    target_data = (
        _open_set(target, target_snr)
        if labelled
        else _open_target(target, voxel_size, contrast, target_snr)
    )
    if labelled:
        before.require_classes(target_data.class_names, "the target")
    if "adaptation" not in after.card.training:
        raise ConfigError(
            f"{adapted_model} is not an adapted model",
            expected="the output of `tomadapt adapt`",
            got="a source model",
            remedy="adapt it first, or give the models in the other order",
        )
    _require_writable(out)
    statistics = TargetStatistics(before).fit(source_data, target_data).model
    models = {"source_only": before, "target_statistics": statistics, after.card.method: after}
    evaluation = evaluate(models, target_data)
    if after.card.training["adapted_to"] != target_data.fingerprint:
        _warn("these are not, or not only, the particles that were adapted to")
        evaluation = replace(evaluation, title="target particles")
    content = report_content(
        before,
        after,
        source=source_data,
        target=target_data,
        evaluations=(evaluation, None),
        title=title,
    )
    write_report(content, out)
    typer.echo(out)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="TOML: structures, source, target, train, adapt.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Do all of it, from structures to a report; run again to finish an interrupted run."""
    from tomadapt.config import RunConfig, load_config

    _run(load_config(config, RunConfig), out, device)


@app.command()
def demo(
    out: Out,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Run the main job on the built-in structures: a few minutes on two CPU cores."""
    from tomadapt.pipeline import demo_config

    _run(demo_config(seed), out, device)


@app.command("self-check")
def self_check(
    acquisition: Annotated[
        str, typer.Option(help="A named acquisition, or a TOML file of one.")
    ] = "batch_b",
    box: Annotated[int, typer.Option(min=24, max=64)] = 40,
    voxel_size: Annotated[float, typer.Option(help="Å.", min=0.5)] = 9.2,
    seed: Seed = 0,
) -> None:
    """Check the simulator's physics on this machine; exits with 1 when a check fails."""
    from rich.console import Console
    from rich.table import Table

    from tomadapt.acquisition import NAMED_ACQUISITIONS, Acquisition
    from tomadapt.config import load_config
    from tomadapt.simulate.selfcheck import run_checks

    recorded = NAMED_ACQUISITIONS.get(acquisition)
    if recorded is None and not Path(acquisition).suffix and not Path(acquisition).exists():
        _one_of("--acquisition", acquisition, (*NAMED_ACQUISITIONS, "a TOML file"))
    if recorded is None:
        recorded = load_config(Path(acquisition), Acquisition)
    checks = run_checks(recorded, box=box, voxel_size_A=voxel_size, seed=seed)
    table = Table("", "check", "measured", "accepted", title=f"{recorded.name}, box {box}")
    for check in checks:
        mark = "[green]pass[/]" if check.passed else "[red]FAIL[/]"
        accepted = f"{check.lowest:g} … {check.highest:g}"
        table.add_row(mark, check.claim, f"{check.measured:.4g}", accepted)
    Console().print(table)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="table1, table2, figure3, …; `list` describes all.")],
    scale: Annotated[str, typer.Option(help="smoke, reduced or paper.")] = "smoke",
    data: Annotated[
        Path | None, typer.Option(help="Folder of structures (and of real volumes).")
    ] = None,
    store: Annotated[Path, typer.Option(help="Where runs are kept and shared.")] = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Where records and tables go.")] = Path(
        "results"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Processes here (above 1: Dask).")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask cluster that sees the store.")
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option(help="table1 only: SOURCE:TARGET SNR; may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="table1 only: a method; may be repeated.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="table1 only: a seed; may be repeated.")
    ] = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="Make the table from the records again.")
    ] = False,
) -> None:
    """Run an experiment of Lin et al. 2019; run again after an interruption to finish it."""
    from importlib import import_module

    from tomadapt.errors import ConfigError
    from tomadapt.experiments import EXPERIMENTS
    from tomadapt.experiments.cluster import dask_client
    from tomadapt.experiments.domains import require_methods
    from tomadapt.experiments.scales import SCALES, Setting

    if name == "list":
        for known, about in EXPERIMENTS.items():
            typer.echo(f"{known:<14} {about}")
        return
    _one_of("experiment", name, (*EXPERIMENTS, "list"))
    chosen = SCALES[_one_of("--scale", scale, tuple(SCALES))]
    module = import_module(f"tomadapt.experiments.{name}")
    only: dict[str, Any] = {}
    if cell or method or seed:
        if name != "table1" or tables_only:
            raise ConfigError(
                "--cell, --method and --seed choose what table1 runs",
                expected="`experiment table1` without --tables-only",
                got=f"`experiment {name}`" + (" --tables-only" if tables_only else ""),
                remedy="leave them out",
            )
        require_methods(tuple(method or ()))
        if max(seed or [0]) >= chosen.seeds_marked:
            raise ConfigError(
                f"no seed {max(seed or [0])} at scale {chosen.name}",
                expected=f"0 to {chosen.seeds_marked - 1}",
                remedy="mend --seed",
            )
        only = {
            "only": module.parse_cells(chosen, cell or ()),
            "methods": tuple(method or ()),
            "seeds": tuple(seed or ()),
        }
    _require_one_process()
    if data is not None and not data.is_dir():
        raise ConfigError(
            f"no data folder {data}",
            expected="a folder",
            got="a file" if data.exists() else "nothing there",
            remedy="mend --data",
        )
    sign: Any = _one_of("--contrast", contrast, ("measure", "positive", "negative"))
    setting = Setting(chosen, data, store, out, voxel_size_A=voxel_size, contrast=sign)
    if tables_only:
        if not hasattr(module, "write_table"):
            raise ConfigError(
                f"experiment {name} makes no table from records alone",
                expected="table1, table2 or augmentation",
                remedy="leave --tables-only out: finished runs are not repeated",
            )
        written = module.write_table(setting)
    else:
        with dask_client(workers, scheduler) as client:
            written = module.run(replace(setting, client=client), **only)
    for path in written:
        typer.echo(path)


@app.command()
def benchmark(
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    box: Annotated[int, typer.Option(min=24, max=64)] = 40,
    device: Device = "auto",
) -> None:
    """Measure subtomograms per second of simulation, training and prediction."""
    import json

    from tomadapt.benchmark import benchmark as measure
    from tomadapt.io.atomic import write_json

    chosen = _device(device)
    if json_out is not None:
        _require_writable(json_out)
    figures = measure(box=box, device=chosen)
    if json_out is not None:
        write_json(json_out, figures)
    typer.echo(json.dumps(figures, indent=1))


@app.command()
def structures() -> None:
    """List the built-in structures."""
    from tomadapt.structures import BUILTIN

    for name, info in BUILTIN.items():
        typer.echo(f"{name:<14} {info.pdb_id:<6} {info.description}")
    typer.echo(f"{'null':<14} {'-':<6} no macromolecule: noise only")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"tomadapt {version('tomadapt')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def _warn(message: str) -> None:
    typer.echo(f"tomadapt: warning: {message}", err=True)


def _epoch_note(record: dict[str, float]) -> str:
    accuracy = record.get("discriminator_accuracy")
    return "" if accuracy is None else f"D {accuracy:.2f}"


DEVICES = ("auto", "cpu", "cuda")
RECIPES = ("default", "paper")


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    from tomadapt.errors import ConfigError

    if value not in allowed:
        raise ConfigError(
            f"{option} has an unknown value",
            expected=" or ".join(allowed),
            got=value,
            remedy="choose one of these",
        )
    return value


def _require_one_process() -> None:
    import os

    from tomadapt.errors import ConfigError

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "this command runs in one process",
            expected="no torchrun",
            got=f"{os.environ['WORLD_SIZE']} processes",
            remedy="use torchrun for `train` and `adapt` only",
        )


def _require_source_model(method: str, path: Path) -> None:
    from tomadapt.errors import ConfigError

    if method != "source_only":
        raise ConfigError(
            f"{path} is not a source model",
            expected="the output of `tomadapt train`",
            got=f"a model made by {method}",
            remedy="give the model from before adaptation",
        )


def _device(value: str) -> str:
    from tomadapt.errors import ConfigError

    if _one_of("--device", value, DEVICES) == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                "--device cuda, but torch sees no such GPU",
                expected="a GPU and a build of torch for it",
                got=f"torch {torch.__version__}",
                remedy="use --device cpu, or install another build of torch",
            )
    return value


def _run(config: Any, out: Path, device: str) -> None:
    from tomadapt.pipeline import run as run_pipeline

    _require_one_process()
    summary = run_pipeline(config, out, device=_device(device))
    for method, scores in summary["target"].items():
        if "held_out" in scores:
            typer.echo(f"{method:<18} accuracy on held-out target: {scores['held_out']:.3f}")
    if summary["adaptation_warning"]:
        _warn(summary["adaptation_warning"])
    typer.echo(out / "report.html")


def _open_set(path: Path, snr: float | None) -> LabelledSubtomograms:
    from tomadapt.simulate.dataset import open_set

    return open_set(path, snr=snr)


def _open_target(path: Path, voxel_size: float | None, contrast: str, snr: float | None) -> Any:
    from tomadapt.io.volumes import open_target

    chosen: Any = _one_of("--contrast", contrast, ("measure", "positive", "negative"))
    return open_target(path, voxel_size_A=voxel_size, contrast=chosen, snr=snr)


def _require_writable(out: Path) -> None:
    """Find out before work starts that an output file can be written."""
    from tomadapt.errors import OutputError
    from tomadapt.io.atomic import output_folder

    if out.is_dir():
        raise OutputError(
            f"cannot write {out}", expected="a file", got="a folder", remedy="name a file in it"
        )
    output_folder(out.parent)


def main() -> None:
    """Entry point: errors that name a remedy are printed on one line, without a traceback."""
    from tomadapt.errors import TomadaptError

    warnings.showwarning = lambda message, *_, **__: _warn(str(message))
    try:
        app()
    except TomadaptError as error:
        _exit_with(error)
    except OSError as error:
        _exit_with(_of_the_system(error))
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns Ctrl-C into this code without a word
            typer.echo("tomadapt: interrupted; run the same command again to go on", err=True)
        raise


INTERRUPTED = 130


def _exit_with(error: TomadaptError) -> NoReturn:
    typer.echo(f"tomadapt: error: {error}", err=True)
    sys.exit(error.exit_code)


def _of_the_system(error: OSError) -> TomadaptError:
    """What the operating system refused and no module has put into better words.

    All outputs are written through :mod:`tomadapt.io.atomic`, so that what is left is a full disk
    (temporary files, standard output) or an input.
    """
    from tomadapt.errors import InputError
    from tomadapt.io.atomic import NO_SPACE, output_error

    name = error.filename or "standard output or a temporary file"
    if error.errno in NO_SPACE:
        return output_error(str(name), error)
    return InputError(
        f"cannot use {name}",
        expected="a readable file",
        got=error.strerror or type(error).__name__,
        remedy="check the path, its permissions and that the file is whole",
    )
