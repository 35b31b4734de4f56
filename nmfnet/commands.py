"""``nmfnet``: data sets to train on and runs that were trained (by ``nmfnet-train``)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmfnet.errors import UserError, stop, stop_unusable

if TYPE_CHECKING:
    from nmfnet.config import Config
    from nmfnet.report.collect import Run
    from nmfnet.run.check import Finding


def main(arguments: Sequence[str] | None = None) -> None:
    """Console entry point: exit code 0 done, 2 bad input, 130 Ctrl-C."""
    parser = make_parser()
    given, more = parser.parse_known_args(arguments)
    if any("=" not in word or word.startswith("-") for word in more) or (
        more and not hasattr(given, "settings")
    ):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if more:  # settings after an option
        given.settings = [*given.settings, *more]
    try:
        given.run(given)
        sys.stdout.flush()
    except UserError as error:
        stop(str(error))
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        stop_unusable(error)
    except KeyboardInterrupt:
        stop("interrupted", code=130)


def make_parser() -> argparse.ArgumentParser:
    """Commands, their options and help."""
    from nmfnet import __version__

    parser = argparse.ArgumentParser(
        prog="nmfnet",
        description="Data sets to train on, and runs that were trained (by nmfnet-train).",
    )
    parser.add_argument("--version", action="version", version=f"nmfnet {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    data = commands.add_parser("data", help="data sets: list, describe, download")
    actions = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add(actions, "list", "every data set, and whether it is on this machine", list_data)
    info = add(actions, "info", "size, licence, citation and options of one", data_info)
    info.add_argument("name", metavar="NAME", help="as in data=NAME")
    get = add(actions, "get", "download its files, with checksums", data_get)
    get.add_argument("name", metavar="NAME", help="as in data=NAME")

    ls = add(commands, "ls", "a table of the runs in a folder", list_runs)
    add_runs(ls)
    show = add(commands, "show", "settings, results and origin of one run", show_run)
    show.add_argument(
        "run_folder", type=expanduser, metavar="RUN", help="folder of the run, as runs/MODEL/RUN_ID"
    )
    sweep = commands.add_parser("sweep", help="sweeps: go on where one was stopped")
    actions = sweep.add_subparsers(title="commands", metavar="COMMAND", required=True)
    resume = add(actions, "resume", "run the jobs of a sweep that have no result yet", resume_sweep)
    resume.add_argument(
        "folder", type=expanduser, metavar="DIR", help="folder of the sweep, as runs/sweeps/DATE"
    )
    resume.add_argument(
        "settings",
        metavar="KEY=VALUE",
        nargs="*",
        help="settings to add, such as launcher=joblib or hparams_search.n_trials=100",
    )
    add_trust(resume, "run whatever its sweep.json says")
    check = add(commands, "check", "what every model promises, tried on one", check_model)
    check.add_argument(
        "settings",
        metavar="KEY=VALUE",
        nargs="+",
        help="model=NAME, and settings such as loss=kl or model.n_components=4",
    )
    check.add_argument(
        "--config-dir",
        type=expanduser,
        metavar="DIR",
        default=None,
        help="folder that holds model/NAME.yaml; modules in it and in this folder can be imported",
    )
    groups = add(commands, "modules", "features and samples that go together (ISA)", find_modules)
    groups.add_argument(
        "settings",
        metavar="KEY=VALUE",
        nargs="+",
        help="data=NAME, and its options such as data.path=FILE",
    )
    groups.add_argument("--feature-threshold", type=float, default=2.0, help="(default: 2)")
    groups.add_argument("--sample-threshold", type=float, default=1.5, help="(default: 1.5)")
    groups.add_argument("--seeds", type=int, default=100, help="random starts (default: 100)")
    groups.add_argument("--log", action="store_true", help="take log(1 + X) first")
    groups.add_argument("-o", "--output", type=expanduser, metavar="FOLDER", default="modules")
    bounds = add(commands, "rank-bounds", "bounds of the non-negative rank of a matrix", bound_rank)
    bounds.add_argument(
        "path", type=expanduser, metavar="FILE", help="as in data=table data.path=FILE"
    )
    bounds.add_argument(
        "--starts", type=int, default=50, help="random starts by number of components (default: 50)"
    )
    bounds.add_argument(
        "--tolerance",
        type=float,
        default=1e-6,
        help="relative error below which a factorisation is exact (default: 1e-6)",
    )
    add_reports(commands)
    shell = add(commands, "completion", "lines with which a shell completes this command", complete)
    shell.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    return parser


def add_reports(commands: Any) -> None:
    """Commands that compare runs, show them as a page, and hand their factors on."""
    compare = add(commands, "compare", "two runs: settings, numbers, components", compare_two)
    compare.add_argument("run_a", type=expanduser, metavar="RUN", help="folder of a run")
    compare.add_argument("run_b", type=expanduser, metavar="RUN", help="folder of another")
    report = add(commands, "report", "one self-contained web page about many runs", write_report)
    add_runs(report)
    report.add_argument(
        "-o",
        "--output",
        type=expanduser,
        metavar="FILE",
        default="report.html",
        help="(default: report.html)",
    )
    live = add(commands, "dashboard", "the same page, live while a sweep runs", serve_dashboard)
    add_runs(live)
    live.add_argument(
        "--port", type=int, default=8050, help="on this machine only; 0 = any free (default: 8050)"
    )
    export = add(commands, "export", "the factors of a run for other programs", export_run)
    export.add_argument(
        "run_folder", type=expanduser, metavar="RUN", help="folder of the run, as runs/MODEL/RUN_ID"
    )
    export.add_argument(
        "--to",
        metavar="FORMAT",
        required=True,
        help="csv, sigprofiler, pyldavis, anndata, safetensors or onnx",
    )
    export.add_argument(
        "-o",
        "--output",
        type=expanduser,
        metavar="FOLDER",
        default=None,
        help="(default: RUN/export)",
    )
    add_trust(export, "import the classes that its checkpoint names")


def add_runs(command: argparse.ArgumentParser) -> None:
    """Add the folder that a command looks for runs in."""
    words = "folder of runs (default: runs)"
    command.add_argument(
        "runs", type=expanduser, metavar="RUNS", nargs="?", default="runs", help=words
    )


def add_trust(command: argparse.ArgumentParser, words: str) -> None:
    """Add ``--trust``: what a file may name is run only if the user says so."""
    command.add_argument("--trust", action="store_true", help=f"{words}: code of others may run")


def add(
    commands: Any, name: str, words: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    """Add one command that calls ``run``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=words, description=words[0].upper() + words[1:] + "."
    )
    parser.set_defaults(run=run)
    return parser


def complete(given: argparse.Namespace) -> None:
    """``nmfnet completion SHELL``."""
    from nmfnet.settings.completion import script

    print(script(make_parser(), given.shell))


# ---------------------------------------------------------------------- data
def list_data(given: argparse.Namespace) -> None:
    """``nmfnet data list``."""
    from nmfnet.data.commands import list_data

    list_data()


def data_info(given: argparse.Namespace) -> None:
    """``nmfnet data info NAME``."""
    from nmfnet.data.commands import info

    info(given.name)


def data_get(given: argparse.Namespace) -> None:
    """``nmfnet data get NAME``."""
    from nmfnet.data.commands import get

    get(given.name)


# ---------------------------------------------------------------------- runs
def list_runs(given: argparse.Namespace) -> None:
    """``nmfnet ls``: one line per run, what differs between them, and the main numbers."""
    from rich.table import Table

    from nmfnet.report.collect import collect, settings, varied
    from nmfnet.run.measures import columns
    from nmfnet.run.terminal import readable, wide_console
    from nmfnet.settings.hints import shown

    found = collect(given.runs)
    told = list(dict.fromkeys(["model", *varied(found)]))
    numbers = columns(run.metrics for run in found)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("run", *told, "status", *(one.column for one in numbers)):
        table.add_column(heading, no_wrap=True)
    for run in found:
        flat = settings(run)
        cells = [run_name(run, Path(given.runs)), *(shown(flat.get(key, "")) for key in told)]
        cells += [run.status, *(readable(run.metrics.get(one.key, "")) for one in numbers)]
        table.add_row(*cells)
    console = wide_console()
    console.print(table)
    for run in found:
        if run.problem and run.status != "interrupted":
            console.print(f"{run_name(run, Path(given.runs))}: {run.problem}", style="red")


def run_name(run: Run, root: Path) -> str:
    """The folder of a run as seen from the folder that was asked for."""
    return str(run.folder.relative_to(root)) if run.folder.is_relative_to(root) else str(run.folder)


def show_run(given: argparse.Namespace) -> None:
    """``nmfnet show``: the whole of one run, as text."""
    from nmfnet.report.collect import read_run, settings
    from nmfnet.run.terminal import readable, wide_console
    from nmfnet.settings.hints import shown

    folder = Path(given.run_folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}: give the folder of a run, as runs/MODEL/RUN_ID")
    run = read_run(folder)
    if run.status != "done" or not run.metrics:
        here = any((folder / name).exists() for name in ("history.csv", "model.ckpt"))
        why = run.problem or "it has not written metrics.json yet"
        raise UserError(
            f"{folder} is not a finished run: {why}"
            if here
            else f"{folder} is not a run folder: "
            "it holds no metrics.json; nmfnet ls FOLDER lists the runs below a folder"
        )
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sections = {
        "settings": {key: shown(value) for key, value in settings(run).items()},
        "results": {key: readable(value) for key, value in run.metrics.items()},
        "origin": origin_lines(run.origin),
        "files": {str(f.relative_to(folder)): f"{f.stat().st_size:,} bytes" for f in files},
    }
    console = wide_console()
    for title, rows in sections.items():
        console.print(title, style="bold")
        width = max((len(key) for key in rows), default=0)
        for key, text in rows.items():
            console.print(f"  {key:<{width}}  {text}")


def origin_lines(origin: dict[str, Any]) -> dict[str, str]:
    """Provenance, one line per fact."""
    lines = {key: str(value) for key, value in origin.items() if isinstance(value, str | int)}
    for key in ("versions", "data_files"):
        lines |= {f"{key}/{name}": str(value) for name, value in (origin.get(key) or {}).items()}
    git = origin.get("git") or {}
    if git:
        changed = " and uncommitted changes" if git.get("changed") else ""
        lines["git"] = f"{git.get('commit')}{changed}"
    lines |= {f"note {i}": note for i, note in enumerate(origin.get("notes") or [], 1)}
    return lines


def resume_sweep(given: argparse.Namespace) -> None:
    """``nmfnet sweep resume DIR``."""
    from nmfnet import cli
    from nmfnet.sweep.summary import resumed

    arguments, cwd = resumed(given.folder, given.settings, trust=given.trust)
    os.chdir(cwd)
    sys.argv = ["nmfnet-train", *arguments]
    cli.main()


def configured(asked: dict[str, Any], folders: Sequence[Path] = ()) -> Config:
    """The configuration of KEY=VALUE words; what Hydra and yaml say of wrong ones in a sentence."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from nmfnet.settings.arguments import in_a_sentence
    from nmfnet.settings.words import configuration

    try:
        return configuration(asked, folders)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(in_a_sentence(error)) from error
    except YAMLError as error:
        raise UserError(f"a configuration file is not valid yaml: {error}") from error


def check_model(given: argparse.Namespace) -> None:
    """``nmfnet check model=NAME``: exit code 1 if a promise is broken."""
    from nmfnet.settings.arguments import setting
    from nmfnet.settings.words import import_from, own_folders

    asked = dict(setting(word) for word in given.settings)
    if "model" not in asked:
        raise UserError("say which model: nmfnet check model=NAME")
    folders = own_folders([f"--config-dir={given.config_dir}"] if given.config_dir else [])
    import_from(folders)
    cfg = configured(asked, folders)
    from nmfnet.run.check import check

    broken = print_findings(check(cfg, asked), str(asked["model"]))
    if broken:
        sys.exit(1)


def find_modules(given: argparse.Namespace) -> None:
    """``nmfnet modules data=NAME -o FOLDER``."""
    from nmfnet.report.modules import write_modules
    from nmfnet.settings.arguments import setting
    from nmfnet.settings.objects import build

    asked = dict(setting(word) for word in given.settings)
    if "data" not in asked:
        raise UserError("say which data: nmfnet modules data=NAME")
    matrix = build(configured(asked).data).read()
    matrix.check()
    found = write_modules(
        matrix,
        given.output,
        log=given.log,
        feature_threshold=given.feature_threshold,
        sample_threshold=given.sample_threshold,
        seeds=given.seeds,
    )
    for number, module in enumerate(found, start=1):
        sizes = f"{(module.features != 0).sum()} features, {(module.samples != 0).sum()} samples"
        print(f"module {number}: {sizes}, strength {module.strength:.1f}")
    print(f"{len(found)} modules, in {given.output}")


def bound_rank(given: argparse.Namespace) -> None:
    """``nmfnet rank-bounds FILE``."""
    from rich.table import Table as Printed

    from nmfnet.data import Table
    from nmfnet.run.terminal import wide_console
    from nmfnet.selection.nonnegative_rank import lines, rank_bounds

    matrix = Table(path=given.path, orientation="samples_by_features").read()
    values = matrix.values
    dense = values if not hasattr(values, "toarray") else values.toarray()
    bounds = rank_bounds(dense, given.starts, given.tolerance)
    table = Printed(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("bound", "value", "what it is"):
        table.add_column(heading)
    for line in lines(bounds):
        table.add_row(*line)
    console = wide_console()
    console.print(table)
    lower, upper = bounds.lower, bounds.upper
    between = f"is {lower}" if lower == upper else f"lies between {lower} and {upper}"
    console.print(f"the non-negative rank {between}")


def print_findings(findings: Iterable[Finding], model: str) -> int:
    """A line per promise; how many are broken."""
    from rich.table import Table
    from rich.text import Text

    from nmfnet.run.terminal import wide_console

    console = wide_console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("promise", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("what was seen, and what to do", overflow="fold")
    styles = {"ok": "green", "FAILED": "bold red", "not asked": "dim"}
    counts = dict.fromkeys(styles, 0)
    for found in findings:
        counts[found.state] += 1
        table.add_row(found.words, Text(found.state, styles[found.state]), found.seen)
    console.print(table)
    console.print(
        f"\nmodel={model}: {counts['ok']} promises kept, {counts['FAILED']} broken, "
        f"{counts['not asked']} not asked"
    )
    return counts["FAILED"]


# ---------------------------------------------------------------------- reports
def compare_two(given: argparse.Namespace) -> None:
    """``nmfnet compare RUN RUN``."""
    from nmfnet.report.compare import compare

    compare(given.run_a, given.run_b)


def write_report(given: argparse.Namespace) -> None:
    """``nmfnet report RUNS -o FILE``."""
    from nmfnet.report.page import report

    report(given.runs, given.output)


def serve_dashboard(given: argparse.Namespace) -> None:
    """``nmfnet dashboard RUNS --port N``."""
    from nmfnet.report.dashboard import dashboard

    dashboard(given.runs, given.port)


def export_run(given: argparse.Namespace) -> None:
    """``nmfnet export RUN --to FORMAT``."""
    from nmfnet.report.export import export

    export(given.run_folder, given.to, given.output, trust=given.trust)


if __name__ == "__main__":
    main()
