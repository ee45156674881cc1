"""The renderer: pure, at any size, with truth that is true."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

from config.errors import ConfigurationError
from ingest.parts.defects import KINDS, Defect, DefectKind
from ingest.parts.product import Side
from ingest.parts.rendering import plan, render
from ingest.parts.template import PRODUCTS, template

SIDES: tuple[Side, ...] = ("top", "bottom")


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(("width", "height"), [(64, 64), (131, 97), (320, 320), (250, 640)])
@pytest.mark.parametrize("colour", [True, False])
def test_any_size_and_both_formats(product: str, width: int, height: int, colour: bool) -> None:  # noqa: FBT001 - a case
    rendering = render(product, 0, 0, width_px=width, height_px=height, colour=colour)
    assert rendering.pixels.shape == (height, width, 3 if colour else 1)
    assert rendering.pixels.dtype == np.uint8
    assert rendering.mask.shape == (height, width)
    assert not rendering.mask.any()
    assert rendering.truth.good
    # neither black nor burnt out, and the part stands out from the belt
    assert 40 < rendering.pixels.mean() < 190
    assert (rendering.pixels == 255).mean() < 0.02
    assert rendering.pixels.std() > 15


def test_a_part_looks_the_same_in_another_process() -> None:
    code = (
        "from hashlib import sha256; from ingest.parts.rendering import render\n"
        "render('cap', 9, 9)\n"
        "print(sha256(render('board', 3, 41, width_px=100, height_px=80).pixels.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert sha256(render("board", 3, 41, width_px=100, height_px=80).pixels.tobytes()).hexdigest() == other


def test_parts_differ_by_sequence_seed_and_side() -> None:
    first = render("cap", 0, 0).pixels
    for other in (render("cap", 0, 1), render("cap", 1, 0), render("cap", 0, 0, side="bottom")):
        assert np.abs(first.astype(int) - other.pixels).mean() > 1


def test_a_negative_or_huge_seed_is_a_seed() -> None:
    assert not np.array_equal(render("cap", -1, 0).pixels, render("cap", 1 << 63, 0).pixels)


def test_an_unknown_product_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="'gear' can be rendered: there are board, bracket, cap"):
        render("gear", 0, 0)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_where_the_defect_changes_the_picture(product: str, side: Side, kind: DefectKind) -> None:
    for sequence in range(6):
        defect = Defect(kind, 0.4 + 0.1 * sequence)
        bad = render(product, 5, sequence, side=side, width_px=224, height_px=224, defect=defect)
        good = render(product, 5, sequence, side=side, width_px=224, height_px=224)
        change = np.abs(bad.pixels.astype(int) - good.pixels).max(axis=2)
        assert bad.truth.defect == kind
        assert not bad.truth.good
        assert 8 <= bad.mask.sum() < 0.15 * bad.mask.size
        # what a person sees lies under the mask; elsewhere the part is the good part, pixel for pixel, bar soft edges
        assert np.percentile(change[bad.mask], 90) > 15
        assert (change[~bad.mask] > 0).mean() < 0.02
        assert change[~bad.mask].mean() < 0.5


@pytest.mark.parametrize("kind", ["scratch", "chip", "stain"])
def test_more_severe_defects_are_larger(kind: DefectKind) -> None:
    def area(severity: float) -> float:
        masks = [render("bracket", 2, number, defect=Defect(kind, severity)).mask for number in range(12)]
        return float(np.mean([mask.sum() for mask in masks]))

    assert area(0.0) < area(0.5) < area(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_scales_with_the_frame(kind: DefectKind) -> None:
    defect = Defect(kind, 0.8)
    shares = [render("board", 2, 5, width_px=side, height_px=side, defect=defect).mask.mean() for side in (256, 512)]
    assert shares[1] == pytest.approx(shares[0], rel=0.5)


def test_light_drifts_slowly_and_stays_within_bounds() -> None:
    # the average over the whole frame, part by part: neighbours are close, the run as a whole wanders
    means = np.array([render("cap", 4, number, width_px=48, height_px=48).pixels.mean() for number in range(140)])
    relative = means / means.mean()
    assert 0.03 < relative.std() < 0.12
    assert np.abs(np.diff(relative)).mean() < 0.6 * relative.std()
    assert relative.min() > 0.75
    assert relative.max() < 1.3


def test_noise_grows_with_the_light() -> None:
    # two exposures differ by place and light too: noise is what neighbouring pixels do not share
    pixels = render("board", 1, 1, width_px=320, height_px=320, colour=False).pixels[..., 0].astype(float)
    residue = pixels[:, 1:] - pixels[:, :-1]
    belt = residue[4:40, 4:-4]
    assert 1.0 < belt.std() / np.sqrt(2) < 3.0


def test_features_of_a_product_do_not_overlap_in_the_picture() -> None:
    for product in PRODUCTS:
        for side in SIDES:
            drawn = template(product, side, 400, 400)
            covered = sum(sprite.footprint((400, 400), (0, 0), 0).astype(int) for sprite in drawn.sprites)
            assert covered.max() == 1
            assert all(sprite.area_px > 20 for sprite in drawn.sprites)


def test_the_plan_is_the_same_for_everyone_and_keeps_the_rate() -> None:
    planned = [plan(3, number, 0.15, KINDS, (0.4, 1.0)) for number in range(4000)]
    assert planned[17:40] == [plan(3, number, 0.15, KINDS, (0.4, 1.0)) for number in range(17, 40)]
    defects = [defect for defect in planned if defect]
    assert 0.13 < len(defects) / len(planned) < 0.17
    assert {defect.kind for defect in defects} == set(KINDS)
    assert all(0.4 <= defect.severity <= 1.0 for defect in defects)


def test_the_plan_at_its_limits() -> None:
    assert not any(plan(3, number, 0.0, KINDS, (0, 1)) for number in range(50))
    assert all(plan(3, number, 1.0, ("chip",), (0.5, 0.5)) == Defect("chip", 0.5) for number in range(50))
