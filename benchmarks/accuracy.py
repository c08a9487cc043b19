"""Train every recipe of the accuracy ladder and measure it on images that no choice was made on; print the table.

Run ``python -m benchmarks.accuracy ROW ...``, by default all rows; ``--out FOLDER`` keeps models and submissions there,
``--write`` puts figures, submissions and table into docs/accuracy/ and docs/accuracy.md, which also has the protocol.
"""

import gzip
import json
import shlex
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine, processes
from fastconv import data
from fastconv.training.metrics import wilson_interval
from fastconv.training.run_folder import read_results


class Recipe(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    target : float
        The accuracy to reach on the test file.
    options : str
        Of ``fastconv train``.
    data : str
        'digits' or 'fashion'.
    """

    target: float
    options: str
    data: str = "digits"


RECIPES = {
    "lenet5": Recipe(0.990, ""),
    "lenet5-augment": Recipe(0.9945, "--model lenet5 --augment"),
    "digitnet-augment": Recipe(0.9970, "--model digitnet --augment"),
    "digitnet-ensemble": Recipe(0.9977, "--model digitnet --augment --ensemble 4 --tta 8"),
    "fashion": Recipe(0.940, "--model digitnet --augment fashion --tta 8", "fashion"),
    "small-2000": Recipe(0.991, "--model tiny --augment"),
    "lenet-seed": Recipe(0.985, "--model lenet_seed --augment"),
}

FILES = {"digits": ("digits/train.csv.gz", "digits/test.csv.gz"), "fashion": ("fashion/train.npz", "fashion/test.npz")}
"""Of each kind of data, in the folder of data: what is trained on, and what a submission is for."""
FINAL = 10  # the last tenth of the training file is kept for the end: 4,200 of 42,000 images
THREADS = 2
PAGE = machine.ROOT / "docs" / "accuracy.md"
RESULTS = PAGE.with_suffix("")
"""Where each row's figures are kept, so that rows can be measured one at a time."""


class Parts(NamedTuple):
    """Files of one kind of data.

    Attributes
    ----------
    train, final : Path
        The first nine tenths of the training file, and the rest.
    labels : int64[n]
        The final part's.
    test : Path or None
        The images of the submission.
    """

    train: Path
    final: Path
    labels: np.ndarray
    test: Path | None


def find(recipe: Recipe, folder: Path) -> tuple[Path, Path | None]:
    """Return the files of a recipe, the test file only if it is there.

    Raises
    ------
    SystemExit
        If there is none to train on.
    """
    train, test = (folder / name for name in FILES[recipe.data])
    if not train.exists():
        raise SystemExit(
            f"benchmarks.accuracy: {train}: there is no such file; name the folder that holds {FILES[recipe.data][0]} "
            "with --data-dir"
        )
    return train, test if test.exists() else None


def part(recipe: Recipe, folder: Path, work: Path) -> Parts:
    """Write the two parts of the training file into ``work``."""
    train, test = find(recipe, folder)
    dataset = data.load(train)
    labels, first = np.asarray(dataset.labels), len(dataset) - len(dataset) // FINAL
    parts = Parts(work / f"{recipe.data}-first.npz", work / f"{recipe.data}-final.npz", labels[first:], test)
    np.savez(parts.train, images=dataset.images[:first], labels=labels[:first])
    np.savez(parts.final, images=dataset.images[first:])
    return parts


def predict(run: Path, recipe: Recipe, images: Path, output: Path) -> np.ndarray:
    """Let a run answer for images; returns the labels, which ``output`` then holds."""
    words = shlex.split(recipe.options)
    views = ["--tta", words[words.index("--tta") + 1]] if "--tta" in words else []
    fastconv("predict", run, images, "-o", output, *views)
    return np.loadtxt(output, np.int64, delimiter=",", skiprows=1, ndmin=2)[:, 1]


def fastconv(command: str, *words: str | Path) -> None:
    """Run a command of fastconv in a process of its own."""
    processes.run(["-m", "fastconv", command, *map(str, words), "--threads", str(THREADS)])


def seeds_of(recipe: Recipe, count: int) -> list[int]:
    """Return the first seeds; those of ensembles are so far apart that no two have a model in common."""
    words = shlex.split(recipe.options)
    models = int(words[words.index("--ensemble") + 1]) if "--ensemble" in words else 1
    return [number * models for number in range(count)]


def member_with(name: str, seed: int, work: Path) -> Path | None:
    """Return the member of an ensemble trained before that is what the row makes of a seed, to the byte; or None."""
    for other, recipe in RECIPES.items():
        if recipe.options.startswith(f"{RECIPES[name].options} --ensemble "):
            for run in work.glob(f"{other}/seed-*/member-*"):
                options = json.loads((run / "config.json").read_bytes())["options"]
                if options["seed"] == seed and not json.loads((run / "metrics.json").read_bytes())["interrupted"]:
                    return run
    return None


def train(name: str, seed: int, parts: Parts, work: Path) -> Path:
    """Train a row with a seed; returns the run's folder."""
    run = work / name / f"seed-{seed}"
    print(f"{name}, seed {seed} ...", file=sys.stderr)
    words = [*shlex.split(RECIPES[name].options), "--val", "0", "--seed", str(seed), "--no-report", "--out", run]
    fastconv("train", parts.train, *words)
    return run


def measure(name: str, parts: Parts, seeds: int, work: Path) -> dict[str, Any]:
    """Train a row with each seed, and return its figures; the first seed's model makes the submission, ROW.csv."""
    recipe, right, seconds, parameters = RECIPES[name], [], [], 0
    folder = work / name
    folder.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds_of(recipe, seeds)):
        run = member_with(name, seed, work) or train(name, seed, parts, work)
        answers = predict(run, recipe, parts.final, folder / f"seed-{seed}-final.csv")
        right.append(int((answers == parts.labels).sum()))
        metrics = json.loads((run / "metrics.json").read_bytes())
        folders = [each["folder"] for each in metrics["members"]] if "members" in metrics else ["."]
        seconds.append(sum(read_results(run / each / "results.csv").seconds for each in folders))
        config = json.loads((run / "config.json").read_bytes())
        parameters = config["parameters"] * config["options"]["ensemble"]
        if number == 0 and parts.test is not None:
            predict(run, recipe, parts.test, work / f"{name}.csv")
    return {
        "row": name,
        "data": FILES[recipe.data][0],
        "options": recipe.options,
        "target": recipe.target,
        "parameters": parameters,
        "seeds": seeds_of(recipe, seeds),
        "images": len(parts.labels),
        "right": right,
        "train_seconds": seconds,
        "machine": machine.describe(),
    }


def _line(figures: Mapping[str, Any]) -> list[str]:
    """Return a row of the table: fractions over the seeds, and the interval of all answers together."""
    rates = [right / figures["images"] for right in figures["right"]]
    low, high = wilson_interval(sum(figures["right"]), figures["images"] * len(rates))
    deviation = f"{statistics.stdev(rates):.4f}" if len(rates) > 1 else machine.ABSENT
    command = f"`fastconv train {Path(figures['data']).name} {figures['options']}`".replace(" `", "`")
    accuracy = [f"{statistics.fmean(rates):.4f}", deviation, f"{low:.4f} to {high:.4f}"]
    seconds = f"{statistics.fmean(figures['train_seconds']):,.0f}"
    return [
        figures["row"],
        command,
        f"{figures['parameters']:,}",
        f"{figures['target']:.4f}",
        *accuracy,
        str(len(rates)),
        seconds,
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the block for docs/accuracy.md."""
    if not rows:
        return "No row has been measured yet.\n"
    header = ["row", "command", "parameters", "target", "accuracy", "deviation", "95 % interval", "seeds"]
    header += ["training, s"]
    where: dict[str, list[str]] = {}
    for figures in rows:
        where.setdefault(figures["machine"], []).append(figures["row"])
    notes = "".join(f"- {', '.join(names)}: {description}.\n" for description, names in where.items())
    return f"""{machine.table(header, [_line(figures) for figures in rows], texts=2)}
Accuracy and training seconds: means over the seeds, each measured on the {rows[0]["images"]:,} images kept for it;
deviation: the standard deviation between seeds; interval: Wilson's, of the answers of all seeds. `--threads {THREADS}`.

{notes}"""


def kept() -> list[dict[str, Any]]:
    """Return the figures of all rows measured so far, in the table's order."""
    files = [RESULTS / f"{name}.json" for name in RECIPES]
    return [json.loads(file.read_bytes()) for file in files if file.exists()]


def keep(name: str, work: Path) -> None:
    """Put a row's figures and submission, compressed, where the table comes from."""
    RESULTS.mkdir(exist_ok=True)
    shutil.copy(work / f"{name}.json", RESULTS)
    if (work / f"{name}.csv").exists():
        submission = gzip.compress((work / f"{name}.csv").read_bytes(), mtime=0)
        (RESULTS / f"{name}.csv.gz").write_bytes(submission)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the rows, and write each down as soon as it is measured."""
    parser = machine.parser("accuracy", __doc__, PAGE)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(RECIPES)} (all)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="models, or ensembles, a row (3)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep runs, figures and submissions there (none)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=machine.ROOT.parent / "shared" / "data",
        metavar="FOLDER",
        help="where digits/ and fashion/ are (%(default)s)",
    )
    options = parser.parse_args(arguments)
    names = options.rows or list(RECIPES)
    for name in names:
        if name not in RECIPES:
            parser.error(f"expected rows of {', '.join(RECIPES)}, got {name!r}")
        find(RECIPES[name], options.data_dir)  # before the first row, which may take an hour
        if options.out is not None and (options.out / name).exists():
            parser.error(f"{options.out / name} is there already; remove it, or name another folder with --out")
    if options.seeds < 1:
        parser.error(f"expected at least one seed, got {options.seeds}")

    names.sort(key=lambda name: "--ensemble" not in RECIPES[name].options)  # their members serve other rows
    figures: list[dict[str, Any]] = []
    parts: dict[str, Parts] = {}
    with TemporaryDirectory() as folder:
        work = Path(folder) if options.out is None else options.out
        work.mkdir(parents=True, exist_ok=True)
        for name in names:
            kind = RECIPES[name].data
            parts[kind] = parts.get(kind) or part(RECIPES[name], options.data_dir, Path(folder))
            found = measure(name, parts[kind], options.seeds, work)
            figures.append(found)
            (work / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            if options.write:
                keep(name, work)
            machine.publish("accuracy", table(kept() if options.write else figures), options.write, PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
