"""What a replay judges by where another bundle takes the place of the recipe's."""

from __future__ import annotations

from pathlib import Path

from config.recipe import ViewRecipe
from deploy import stations
from deploy.replay.judges import rebased
from inference.bundle import Bundle
from inference.keys import TrustStore

BUNDLE = Path(stations.__file__).parent / "demo" / "bracket.andon"


def test_zones_keep_places_and_areas_and_lose_the_thresholds_of_the_other_bundles_score() -> None:
    bundle = Bundle.open(BUNDLE, TrustStore.load(extra=stations.DEMO_KEYS))
    box = [[0, 0], [9, 0], [9, 9]]
    zones = [
        {"name": "rim", "polygon_px": box, "review_above": 5.0, "reject_above": 9.0, "minimum_defect_area_px": 7},
        {"name": "clamp", "polygon_px": box, "exclude": True},
    ]
    view = ViewRecipe.model_validate({"bundle": "b", "review_above": 1.0, "reject_above": 2.0, "zones": zones})
    calibration = bundle.manifest.calibration
    own, rim = rebased(view, bundle, keep_thresholds=False).limits()
    assert (own.review_above, own.reject_above) == (calibration.review_above, calibration.reject_above)
    assert (rim.review_above, rim.reject_above) == (calibration.review_above, calibration.reject_above)
    assert (rim.minimum_area_px, own.minimum_area_px) == (7, 0)
    assert rebased(view, bundle, keep_thresholds=True).limits() == view.limits()
    assert rebased(view, bundle, keep_thresholds=False).zones[1].exclude
