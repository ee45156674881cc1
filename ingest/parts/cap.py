"""`cap`: a moulded plastic screw cap: knurled rim, ribs, a printed mark above, a seal inside."""

from __future__ import annotations

from ingest.parts.product import Feature, Material, Product, Side
from ingest.parts.shapes import box, disc, polygon, ring, sector
from ingest.parts.sheet import Sheet

_PLASTIC_BGR = (158, 92, 34)
_PRINT_BGR = (236, 238, 238)
_SEAL_BGR = (44, 96, 206)
_MATERIAL = Material(
    grain="moulded",
    grain_strength=0.02,
    gloss=0.5,
    edge=0.014,
    scratch_bgr=(214, 190, 160),
    fracture_bgr=(206, 160, 112),
    stain_bgr=(26, 34, 44),
)
_KNURLS = 60
_RIBS = 6


def seen_from(side: Side) -> Product:
    """Return the cap as seen from above or from inside."""
    return (
        Product(_top, _top_features(), _MATERIAL) if side == "top" else Product(_inside, _inside_features(), _MATERIAL)
    )


def _rim(sheet: Sheet) -> None:
    sheet.make(disc(0, 0, 0.41), _PLASTIC_BGR)
    step = 360 / _KNURLS
    for number in range(_KNURLS):
        sheet.lift(sector(0, 0, 0.375, 0.42, number * step, (number + 0.55) * step), 0.007, 0.008)


def _top(sheet: Sheet) -> None:
    _rim(sheet)
    sheet.lift(disc(0, 0, 0.372), 0.012, 0.016)
    sheet.lift(disc(0, 0, 0.31), -0.01, 0.012)
    sheet.lift(disc(0, 0, 0.07), 0.006, 0.012)
    sheet.lift(disc(0, 0, 0.012), 0.008, 0.008)  # where the plastic came in


def _top_features() -> tuple[Feature, ...]:
    def mark(sheet: Sheet) -> None:
        sheet.paint(sheet.letters("OPEN", 0, -0.165, 0.052, 0.2), _PRINT_BGR)

    def arrow(sheet: Sheet) -> None:
        sheet.paint(sector(0, 0, 0.2, 0.222, 55, 112), _PRINT_BGR)
        sheet.paint(polygon([(-0.08, 0.155), (-0.064, 0.235), (-0.135, 0.205)]), _PRINT_BGR)

    features = [
        Feature("print", box(0, -0.165, 0.28, 0.09), mark, tolerance=0.0015, tolerance_deg=0.6),
        Feature("arrow", box(0, 0.195, 0.3, 0.11), arrow, tolerance=0.0015, tolerance_deg=0.6),
    ]
    for number, angle_deg in enumerate((-20.0, 20.0, 160.0, 200.0), 1):
        features.append(_rib(f"rib {number}", angle_deg, 0.11, 0.27))
    return tuple(features)


def _inside(sheet: Sheet) -> None:
    _rim(sheet)
    sheet.lift(ring(0, 0, 0.372, 0.335), 0.014, 0.01)
    sheet.lift(disc(0, 0, 0.335), -0.02, 0.02)
    sheet.paint(ring(0, 0, 0.31, 0.255), _SEAL_BGR)
    sheet.lift(ring(0, 0, 0.31, 0.255), 0.012, 0.02)
    sheet.lift(disc(0, 0, 0.055), 0.01, 0.012)


def _inside_features() -> tuple[Feature, ...]:
    def cavity(sheet: Sheet) -> None:
        sheet.lift(sheet.letters("7", 0, 0, 0.045), 0.006, 0.003)

    ribs = [_rib(f"rib {number + 1}", 21 + 360 / _RIBS * number, 0.075, 0.225) for number in range(_RIBS)]
    return (*ribs, Feature("cavity number", disc(0, 0, 0.045), cavity))


def _rib(name: str, angle_deg: float, inner: float, outer: float) -> Feature:
    ((x, y),) = sector(0, 0, 0, (inner + outer) / 2, angle_deg, angle_deg)[0][:1]
    shape = box(x, y, outer - inner, 0.03, corner=0.012, angle_deg=angle_deg)
    outline = box(x, y, outer - inner + 0.03, 0.06, angle_deg=angle_deg)
    return Feature(name, outline, lambda sheet: sheet.lift(shape, 0.016, 0.014))
