"""`bracket`: a stamped steel bracket with holes and slots, brushed, its number embossed."""

from __future__ import annotations

from ingest.parts.product import Feature, Material, Product, Side
from ingest.parts.shapes import Shape, box, disc, polygon, ring
from ingest.parts.sheet import Sheet

_STEEL_BGR = (168, 165, 160)
_MATERIAL = Material(
    grain="brushed",
    grain_strength=0.045,
    gloss=0.3,
    edge=0.009,
    scratch_bgr=(236, 236, 236),
    fracture_bgr=(206, 206, 208),
    stain_bgr=(34, 52, 74),
)
_OUTLINE = [
    (-0.41, -0.16),
    (-0.24, -0.16),
    (-0.24, -0.34),
    (0.24, -0.34),
    (0.24, -0.16),
    (0.41, -0.16),
    (0.41, 0.25),
    (0.33, 0.33),
    (-0.33, 0.33),
    (-0.41, 0.25),
]


def seen_from(side: Side) -> Product:
    """Return the bracket as seen from one side."""
    turn = 1 if side == "top" else -1

    def body(sheet: Sheet) -> None:
        sheet.make(polygon([(turn * x, y) for x, y in _OUTLINE], corner=0.025), _STEEL_BGR)
        # the tab is bent: a rolled line along its root
        sheet.lift(box(0, -0.165, 0.462, 0.03, corner=0.012), 0.007 * turn, 0.014)
        # stiffening beads
        for x in (-0.2, 0.2):
            sheet.lift(box(x, 0.05, 0.03, 0.2, corner=0.014), 0.008 * turn, 0.013)
        if side == "top":
            sheet.lift(sheet.letters("AN-204", 0, 0.19, 0.03), -0.004, 0.003)
        else:
            sheet.lift(ring(0, 0.19, 0.028, 0.022), -0.004, 0.003)

    holes = [(-0.33, -0.08), (0.33, -0.08), (-0.33, 0.2), (0.33, 0.2)]
    features = [_hole(f"hole {number}", turn * x, y, 0.036) for number, (x, y) in enumerate(holes, 1)]
    features += [_slot(f"slot {number}", turn * x, 0.265) for number, x in enumerate((-0.14, 0.14), 1)]
    features += [_slot("tab slot", 0, -0.255, 0.16), _bore(side)]
    return Product(body, tuple(features), _MATERIAL)


def _hole(name: str, x: float, y: float, radius: float) -> Feature:
    return Feature(name, disc(x, y, radius + 0.02), lambda sheet: sheet.cut(disc(x, y, radius)))


def _slot(name: str, x: float, y: float, length: float = 0.15) -> Feature:
    shape: Shape = box(x, y, length, 0.044, corner=0.0215)
    return Feature(name, box(x, y, length + 0.04, 0.084), lambda sheet: sheet.cut(shape))


def _bore(side: Side) -> Feature:
    def draw(sheet: Sheet) -> None:
        if side == "top":
            sheet.lift(disc(0, 0.035, 0.118), -0.014, 0.024)
        sheet.cut(disc(0, 0.035, 0.088))

    return Feature("bore", disc(0, 0.035, 0.14), draw)
