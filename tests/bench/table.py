"""The table of the manual: `python tests/bench/table.py FOLDER OUT [--every DATA=N] [--detectors A,B] [--variants]`.

Learns and measures every detector with its defaults on every data set of FOLDER (those with `train` and `test`), and
writes OUT/table.md. Run again to go on where it ended: what is in OUT for the same images, options and versions is not
done again, and what failed is tried once more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from config import dataset, files
from config.intervals import area_interval
from deploy.logbook import ScreenProgress
from inference.training.candidates import candidates
from inference.training.evaluation import Rate
from inference.training.trial import Asked, Outcome, data_digest, trial

COLUMNS = (
    "detector", "image AUROC (95 %)", "AUPR", "best F1", "pixel AUROC", "AUPRO", "false rejects", "escapes",
    "escapes at 0.1 / 0.5 / 1 % false rejects", "fit s", "ms at 1 / 16", "bundle MB", "in memory MB",
)  # fmt: skip


def main() -> None:
    """Measure what is missing, and write the table after every trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", action="append", default=[], metavar="DATA=N", help="every N-th training image")
    parser.add_argument("--detectors", default="", metavar="A,B")
    parser.add_argument("--data", default="", metavar="A,B", help="these data sets alone")
    parser.add_argument("--variants", action="store_true", help="named sets of options, too")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    every = {name: int(count) for name, _, count in (text.partition("=") for text in asked.every)}
    wanted = [name for name in asked.detectors.split(",") if name]
    tried = candidates(wanted, variants=asked.variants)
    chosen = [name for name in asked.data.split(",") if name]
    sets = sorted(path for path in asked.folder.iterdir() if (path / "train").is_dir() and (path / "test").is_dir())
    sections: dict[str, str] = {}
    for data in [path for path in sets if not chosen or path.name in chosen]:
        out = asked.out / data.name
        thinned = thin(data, out / "images" / data.name, every.get(data.name, 1))
        digest = data_digest(thinned)
        outcomes: list[Outcome] = []
        for candidate in tried:
            output = (out / f"{candidate.name}.andon").absolute()
            one = Asked(data=thinned.absolute(), output=output, candidate=candidate, seed=asked.seed)
            outcomes.append(trial(one, digest, out, ScreenProgress()))
            sections[data.name] = section(data.name, thinned, outcomes, asked.seed)
            files.write(asked.out / "table.md", "\n".join(sections.values()).encode())
    sys.stdout.write("\n".join(sections.values()))


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


def section(name: str, data: Path, outcomes: list[Outcome], seed: int) -> str:
    """Return the table of a data set."""
    samples = dataset.test_images(data)
    good = sum(sample.good for sample in samples)
    told = (
        f"**{name}**: {len(dataset.training_images(data))} good images to learn from, {good} good and "
        f"{len(samples) - good} bad ones to judge, seed {seed}, one thread.\n"
    )
    lines = [
        told,
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    lines += [f"| {' | '.join(row(outcome))} |" for outcome in outcomes]
    return "\n".join(lines) + "\n"


def row(outcome: Outcome) -> Iterator[str]:
    """Yield the cells of a detector; of one that failed, why."""
    yield outcome.candidate.name
    found, cost = outcome.evaluation, outcome.cost
    if found is None or cost is None or found.image_auroc is None:
        yield f"{outcome.state}: {outcome.why}".replace("|", "/")
        yield from [""] * (len(COLUMNS) - 2)
        return
    good = sum(image.good for image in found.images)
    low, high = area_interval(found.image_auroc, good, len(found.images) - good)
    yield f"{_share(found.image_auroc)} ({_share(low)} to {_share(high)})"
    for value in (found.image_aupr, found.image_f1_max, found.pixel_auroc, found.pixel_aupro):
        yield _share(value)
    yield _rate(found.false_rejects)
    yield _rate(found.escapes)
    yield " / ".join(_share(point.escapes.rate) for point in found.operating)
    yield f"{found.fit_s or 0:.0f}"
    yield f"{cost.ms_per_image:.1f} / {cost.ms_per_image_of_16:.1f}"
    yield f"{found.bundle_bytes / 1e6:.1f}"
    yield f"{cost.resident_bytes / 1e6:.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _rate(rate: Rate) -> str:
    return f"{100 * rate.rate:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


if __name__ == "__main__":
    main()
