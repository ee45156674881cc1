"""`board`: a small printed circuit: components above, solder joints below."""

from __future__ import annotations

from ingest.parts.product import Feature, Material, Product, Side
from ingest.parts.shapes import box, disc, path, ring, sector
from ingest.parts.sheet import Bgr, Sheet

_GREEN_BGR: Bgr = (58, 98, 30)
_TRACE_BGR: Bgr = (72, 124, 44)
_GOLD_BGR: Bgr = (92, 176, 212)
_TIN_BGR: Bgr = (196, 196, 194)
_SILK_BGR: Bgr = (222, 226, 224)
_BLACK_BGR: Bgr = (44, 42, 41)
_TAN_BGR: Bgr = (104, 148, 178)
_MATERIAL = Material(
    grain="woven",
    grain_strength=0.025,
    gloss=0.3,
    edge=0.006,
    scratch_bgr=(170, 206, 190),
    fracture_bgr=(150, 196, 196),
    stain_bgr=(30, 44, 58),
)
_TOLERANCE = 0.0022
_TOLERANCE_DEG = 0.9
_MOUNTS = [(-0.37, -0.27), (0.37, -0.27), (-0.37, 0.27), (0.37, 0.27)]
_TRACES = [
    [(-0.3, -0.05), (-0.16, -0.05), (-0.1, 0.01)],
    [(-0.3, 0.02), (-0.2, 0.02), (-0.14, 0.06), (-0.1, 0.06)],
    [(0.1, -0.03), (0.19, -0.03), (0.26, -0.1), (0.26, -0.16)],
    [(0.1, 0.03), (0.22, 0.03), (0.3, 0.09), (0.3, 0.17)],
    [(-0.06, -0.1), (-0.06, -0.2), (-0.12, -0.26)],
    [(0.02, -0.1), (0.02, -0.18), (0.09, -0.25), (0.2, -0.25)],
    [(-0.02, 0.13), (-0.02, 0.2), (0.06, 0.26), (0.2, 0.26)],
    [(-0.06, 0.13), (-0.12, 0.19), (-0.2, 0.19)],
    [(0.39, -0.12), (0.39, 0.12)],
]


def seen_from(side: Side) -> Product:
    """Return the board as seen from its components' or its solder's side."""
    features = _components() if side == "top" else _joints()
    return Product(_top if side == "top" else _bottom, features, _MATERIAL)


def _blank(sheet: Sheet, turn: int) -> None:
    sheet.make(box(0, 0, 0.86, 0.66, corner=0.03), _GREEN_BGR)
    for trace in _TRACES:
        points = [(turn * x, y) for x, y in trace]
        for piece in path(points, 0.011):
            sheet.paint(piece, _TRACE_BGR)
        for x, y in (points[0], points[-1]):
            sheet.paint(disc(x, y, 0.012), _TRACE_BGR)
            sheet.paint(disc(x, y, 0.005), _BLACK_BGR)
    for x, y in _MOUNTS:
        sheet.paint(ring(x, y, 0.042, 0.026), _GOLD_BGR)
        sheet.cut(disc(x, y, 0.026))


def _top(sheet: Sheet) -> None:
    _blank(sheet, 1)
    sheet.paint(sheet.letters("ANDON IO-3", 0.09, 0.3, 0.022, 0.13), _SILK_BGR)
    for feature, x, y, width, height in _outlines():
        sheet.paint(sheet.letters(feature, x, y - height / 2 - 0.018, 0.015, 0.13), _SILK_BGR, 0.9)
        for pad in (-1, 1):
            sheet.paint(box(x + pad * width * 0.36, y, width * 0.3, height), _TIN_BGR)
    for offset in range(7):
        for edge in (-1, 1):
            sheet.paint(box(edge * 0.105, 0.015 + (offset - 3) * 0.026, 0.034, 0.014), _TIN_BGR)
            sheet.paint(box((offset - 3) * 0.026, 0.015 + edge * 0.105, 0.014, 0.034), _TIN_BGR)
    for offset in range(4):
        for edge in (-1, 1):
            sheet.paint(box(0.2 + (offset - 1.5) * 0.026, 0.215 + edge * 0.052, 0.014, 0.03), _TIN_BGR)
    sheet.paint(ring(0.24, -0.2, 0.074, 0.068), _SILK_BGR, 0.9)
    sheet.paint(ring(-0.37, 0.0, 0.018, 0.01), _TIN_BGR)


def _outlines() -> list[tuple[str, float, float, float, float]]:
    """Name, middle and pads of the two-pole components."""
    resistors = [("R1", -0.22, -0.1), ("R2", -0.22, -0.2), ("R3", 0.1, -0.16), ("R4", 0.29, 0.0)]
    capacitors = [("C1", -0.22, 0.12), ("C2", -0.06, 0.22), ("C3", 0.05, -0.25), ("C4", 0.2, 0.09)]
    return [(name, x, y, 0.075, 0.036) for name, x, y in resistors] + [
        (name, x, y, 0.07, 0.042) for name, x, y in capacitors
    ]


def _components() -> tuple[Feature, ...]:
    features = [
        _part(name, x, y, width, height, _BLACK_BGR if name.startswith("R") else _TAN_BGR)
        for name, x, y, width, height in _outlines()
    ]
    features += [
        Feature("U1", box(0, 0.015, 0.25, 0.25), _controller, _TOLERANCE, _TOLERANCE_DEG),
        Feature("U2", box(0.2, 0.215, 0.13, 0.15), _driver, _TOLERANCE, _TOLERANCE_DEG),
        Feature("C5", disc(0.24, -0.2, 0.072), _electrolytic, _TOLERANCE, 3.0),
        Feature("J1", box(-0.355, 0.01, 0.08, 0.31), _header, _TOLERANCE),
    ]
    return tuple(features)


def _part(name: str, x: float, y: float, width: float, height: float, colour_bgr: Bgr) -> Feature:
    def draw(sheet: Sheet) -> None:
        sheet.paint(box(x, y, width, height), _TIN_BGR)
        sheet.paint(box(x, y, width * 0.62, height), colour_bgr)
        sheet.lift(box(x, y, width, height), 0.012, 0.006)

    return Feature(name, box(x, y, width + 0.015, height + 0.015), draw, _TOLERANCE, 1.5)


def _controller(sheet: Sheet) -> None:
    x, y = 0.0, 0.015
    for offset in range(7):
        for edge in (-1, 1):
            for pin in (
                box(x + edge * 0.1, y + (offset - 3) * 0.026, 0.036, 0.011),
                box(x + (offset - 3) * 0.026, y + edge * 0.1, 0.011, 0.036),
            ):
                sheet.paint(pin, (214, 214, 212))
                sheet.lift(pin, 0.004, 0.004)
    sheet.paint(box(x, y, 0.176, 0.176, corner=0.006), _BLACK_BGR)
    sheet.lift(box(x, y, 0.176, 0.176, corner=0.006), 0.016, 0.009)
    sheet.paint(disc(x - 0.064, y - 0.064, 0.008), (96, 96, 96))
    sheet.paint(sheet.letters("AX32", x, y - 0.01, 0.026, 0.12), (138, 138, 138))
    sheet.paint(sheet.letters("2604", x, y + 0.036, 0.018, 0.12), (128, 128, 128))


def _driver(sheet: Sheet) -> None:
    x, y = 0.2, 0.215
    for offset in range(4):
        for edge in (-1, 1):
            sheet.paint(box(x + (offset - 1.5) * 0.026, y + edge * 0.05, 0.011, 0.032), (214, 214, 212))
    sheet.paint(box(x, y, 0.11, 0.078), _BLACK_BGR)
    sheet.lift(box(x, y, 0.11, 0.078), 0.014, 0.008)
    sheet.paint(disc(x - 0.04, y + 0.022, 0.007), (104, 104, 104))


def _electrolytic(sheet: Sheet) -> None:
    x, y = 0.24, -0.2
    sheet.paint(disc(x, y, 0.062), (190, 188, 186))
    sheet.paint(sector(x, y, 0, 0.062, 130, 230), (62, 56, 54))
    sheet.lift(disc(x, y, 0.062), 0.022, 0.014)
    sheet.lift(ring(x, y, 0.048, 0.04), -0.004, 0.004)


def _header(sheet: Sheet) -> None:
    x, y = -0.355, 0.01
    sheet.paint(box(x, y, 0.06, 0.29), (56, 52, 50))
    sheet.lift(box(x, y, 0.06, 0.29), 0.014, 0.007)
    for offset in range(6):
        pin = box(x, y + (offset - 2.5) * 0.047, 0.022, 0.022)
        sheet.paint(pin, _GOLD_BGR)
        sheet.lift(pin, 0.014, 0.008)


def _bottom(sheet: Sheet) -> None:
    _blank(sheet, -1)
    sheet.paint(sheet.letters("94V-0", -0.09, 0.3, 0.022, 0.13), _SILK_BGR)
    for _, x, y in _places():
        sheet.paint(ring(x, y, 0.022, 0.0145), _GOLD_BGR)
        sheet.paint(disc(x, y, 0.0145), (20, 19, 18))


def _places() -> list[tuple[str, float, float]]:
    pins = [(f"J1 pin {pin + 1}", 0.355, 0.01 + (pin - 2.5) * 0.047) for pin in range(6)]
    return [
        *pins,
        ("C5 plus", -0.21, -0.2),
        ("C5 minus", -0.27, -0.2),
        ("L1 left", 0.08, -0.18),
        ("L1 right", -0.06, -0.18),
    ]


def _joints() -> tuple[Feature, ...]:
    return tuple(_joint(name, x, y) for name, x, y in _places())


def _joint(name: str, x: float, y: float) -> Feature:
    def draw(sheet: Sheet) -> None:
        sheet.paint(disc(x, y, 0.019), (214, 214, 212))
        sheet.lift(disc(x, y, 0.019), 0.016, 0.02)

    return Feature(name, disc(x, y, 0.02), draw, 0.0008)
