"""The table of the manual: `python tests/bench/table.py FOLDER OUT [--every DATA=N] [--anomalib PYTHON] ...`.

Learns and measures every detector with its defaults on every data set of FOLDER (each a folder with `train` and `test`,
or FOLDER itself is one), and writes OUT/table.md: one table of all, then the same beside Anomalib's models where
PYTHON is an interpreter that has Anomalib (`peers/venvs.py` makes one). Run again to go on where it ended: what is in
OUT for the same images, options and versions is not done again, and what failed is tried once more. With `--kept`
nothing is learnt: the table is of what is there. `andon select --data OUT/DATA/images/DATA --out OUT/DATA` chooses from
the same trials.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import beside

from config import dataset, files
from config.errors import AndonError, InputError
from config.intervals import area_interval
from deploy.logbook import ScreenProgress
from inference.training.candidates import candidates
from inference.training.evaluation import Rate
from inference.training.trial import Asked, Outcome, data_digest, trial

COLUMNS = (
    "data", "detector", "image AUROC (95 %)", "AUPR", "best F1", "pixel AUROC", "AUPRO", "false rejects", "escapes",
    "escapes at 0.1 / 0.5 / 1 % false rejects", "fit s", "ms at 1 / 16", "bundle MB", "in memory MB",
)  # fmt: skip


def main() -> int:
    """Measure what is missing, and write the table after every trial."""
    asked = _arguments()
    every = {name: int(count) for name, _, count in (text.partition("=") for text in asked.every)}
    tried = candidates(_names(asked.detectors), variants=asked.variants)
    table = _Table(asked.out)
    for data in data_sets(asked.folder, _names(asked.data)):
        out = asked.out / data.name
        try:
            thinned = thin(data, out / "images" / data.name, every.get(data.name, 1))
            digest = data_digest(thinned)
        except AndonError as error:
            table.told.append(f"**{data.name}**: not measured: {error}")
            continue
        table.told.append(_told(data.name, thinned, every.get(data.name, 1), asked.seed))
        for candidate in tried:
            output = (out / f"{candidate.name}.andon").absolute()
            one = Asked(
                data=thinned.absolute(),
                output=output,
                candidate=candidate,
                seed=asked.seed,
                channels=asked.channels,
            )
            kept = out / f"{candidate.name}.json"
            if asked.kept and not kept.is_file():
                continue
            outcome = (
                Outcome.model_validate_json(kept.read_bytes())
                if asked.kept
                else trial(one, digest, out, ScreenProgress())
            )
            table.rows.append((data.name, outcome))
            if asked.anomalib and candidate.name in beside.MODELS and outcome.evaluation:
                pair = beside.peer(asked.anomalib.absolute(), thinned, digest, outcome, output, only_kept=asked.kept)
                table.pairs += [(data.name, outcome, pair)] if pair else []
            table.write()
    table.write()
    sys.stdout.write(table.text())
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", action="append", default=[], metavar="DATA=N", help="every N-th training image")
    parser.add_argument("--detectors", default="", metavar="A,B", help="these alone")
    parser.add_argument("--data", default="", metavar="A,B", help="these data sets alone, in this order")
    parser.add_argument("--variants", action="store_true", help="named sets of options, too")
    parser.add_argument("--anomalib", type=Path, metavar="PYTHON", help="beside Anomalib's models, too")
    parser.add_argument("--kept", action="store_true", help="only what OUT has")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="what the camera gives, if the files are mixed")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def data_sets(folder: Path, wanted: list[str]) -> list[Path]:
    """Return the data sets of a folder, those that are wanted in their order; raise InputError where there is none."""
    folder = folder.absolute()
    known = {path.name: path for path in [folder, *sorted(folder.iterdir())] if _is_data(path)}
    missing = [name for name in wanted if name not in known]
    if missing or not known:
        there = ", ".join(known) or "none"
        raise InputError(f"{folder}: no data set {', '.join(missing)} with 'train' and 'test'; there are: {there}")
    return [known[name] for name in wanted] if wanted else list(known.values())


def _is_data(path: Path) -> bool:
    return (path / "train").is_dir() and (path / "test").is_dir()


def thin(data: Path, folder: Path, every: int) -> Path:
    """Return a folder of links to every N-th good training image, and to all test images and masks."""
    good = folder / "train" / dataset.GOOD
    good.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in dataset.training_images(data)[::every]}
    for link in good.iterdir():
        if link.name not in wanted:
            link.unlink()
    links = {good / name: path for name, path in wanted.items()}
    links |= {folder / name: data / name for name in ("test", "ground_truth") if (data / name).is_dir()}
    for link, target in links.items():
        if not link.is_symlink():
            link.symlink_to(target.absolute())
    return folder


class _Table:
    """What was measured so far."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.told: list[str] = []
        self.rows: list[tuple[str, Outcome]] = []
        self.pairs: list[tuple[str, Outcome, beside.Peer]] = []

    def text(self) -> str:
        """Return the table: the data sets in their order, of each the most accurate first."""
        order = list(dict.fromkeys(name for name, _ in self.rows))
        ranked = sorted(self.rows, key=lambda one: (order.index(one[0]), -_area(one[1])))
        lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        lines += [f"| {' | '.join((name, *row(outcome)))} |" for name, outcome in ranked]
        parts = ["\n".join(f"- {told}" for told in self.told), "\n".join(lines)]
        return "\n\n".join([*parts, *([beside.table(self.pairs)] if self.pairs else [])]) + "\n"

    def write(self) -> None:
        """Keep it."""
        self.out.mkdir(parents=True, exist_ok=True)
        files.write(self.out / "table.md", self.text().encode())


def _area(outcome: Outcome) -> float:
    return outcome.evaluation.image_auroc or 0.0 if outcome.evaluation else -1.0


def _told(name: str, data: Path, every: int, seed: int) -> str:
    samples = dataset.test_images(data)
    good = sum(sample.good for sample in samples)
    which = "" if every == 1 else f" (every {every}th)"
    return (
        f"**{name}**: {len(dataset.training_images(data))} good images to learn from{which}, {good} good and "
        f"{len(samples) - good} bad ones to judge, seed {seed}, one thread"
    )


def row(outcome: Outcome) -> Iterator[str]:
    """Yield the cells of a detector; of one that failed, why."""
    yield outcome.candidate.name
    found, cost = outcome.evaluation, outcome.cost
    if found is None or cost is None or found.image_auroc is None:
        yield f"{outcome.state}: {outcome.why}".replace("|", "/")
        yield from [""] * (len(COLUMNS) - 3)
        return
    good = sum(image.good for image in found.images)
    low, high = area_interval(found.image_auroc, good, len(found.images) - good)
    yield f"{_share(found.image_auroc)} ({_share(low)} to {_share(high)})"
    for value in (found.image_aupr, found.image_f1_max, found.pixel_auroc, found.pixel_aupro):
        yield _share(value)
    yield _rate(found.false_rejects)
    yield _rate(found.escapes)
    yield " / ".join(_share(point.escapes.rate) for point in found.operating)
    yield f"{found.fit_cpu_s or found.fit_s or 0:.1f}"
    yield f"{cost.ms_per_image:.1f} / {cost.ms_per_image_of_16:.1f}"
    yield f"{found.bundle_bytes / 1e6:.1f}"
    yield f"{cost.resident_bytes / 1e6:.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _rate(rate: Rate) -> str:
    return f"{100 * rate.rate:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AndonError as error:
        sys.exit(f"{error}")
