"""What retention plans: never what is young, never less for being older, and in the order that is promised."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.station import ImagesDays, RetentionSection, RowsDays, StorageSection
from storage import schema
from storage.partitions import DAY, WIDTHS, Partition, partition_of
from storage.retention import plan
from storage.retention.plan import CLASSES, MINIMUM, Kind, Note, Removal

NOW = datetime(2026, 11, 22, 13, 30, tzinfo=UTC)

times = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001 - UTC follows
present = st.sets(st.builds(partition_of, st.sampled_from(list(WIDTHS)), times), max_size=12)
pairs = st.tuples(st.integers(1, 3000), st.integers(1, 3000)).map(sorted)


@st.composite
def settings(draw: st.DrawFn) -> RetentionSection:
    chosen = {name: draw(pairs) for name in CLASSES}
    return RetentionSection(
        images_days=ImagesDays(**{name: days[0] for name, days in chosen.items()}),
        rows_days=RowsDays(**{name: days[1] for name, days in chosen.items()}),
    )


def _removed(removals: list[Removal]) -> set[tuple[Kind, datetime, str]]:
    return {(removal.kind, removal.start, name) for removal in removals for name in removal.before}


@given(present, settings(), times)
def test_only_what_is_wholly_too_old_for_its_class_goes_by_age(
    there: set[Partition], keep: RetentionSection, now: datetime
) -> None:
    found = plan.by_age(there, keep, now)
    for removal in found:
        days = keep.rows_days if removal.kind is Kind.ROWS else keep.images_days
        for name, before in removal.before.items():
            assert removal.end <= now - timedelta(days=getattr(days, name)) <= now - MINIMUM
            assert before == now - timedelta(days=getattr(days, name))
    assert [removal.end for removal in found] == sorted(removal.end for removal in found)


@given(present, settings(), times, st.timedeltas(timedelta(), timedelta(days=4000)))
def test_what_goes_now_goes_later_too(
    there: set[Partition], keep: RetentionSection, now: datetime, later: timedelta
) -> None:
    assert _removed(plan.by_age(there, keep, now)) <= _removed(plan.by_age(there, keep, now + later))


@given(present, settings(), st.sampled_from(CLASSES), st.integers(0, 500), times)
def test_a_longer_time_for_one_class_takes_nothing_from_another(
    there: set[Partition], keep: RetentionSection, name: str, days: int, now: datetime
) -> None:
    longer = keep.model_copy(
        update={"rows_days": keep.rows_days.model_copy(update={name: getattr(keep.rows_days, name) + days})}
    )
    before, after = (_removed(plan.by_age(there, section, now)) for section in (keep, longer))
    assert after <= before
    assert {gone for gone in before - after if gone[2] != name} == set()


@given(present, times, st.booleans())
def test_space_is_taken_in_the_order_that_is_promised_and_never_from_the_young(
    there: set[Partition],
    now: datetime,
    of_images: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    found = list(plan.by_space(there, now, of_images=of_images))
    steps = [(Kind.IMAGES, False), (Kind.IMAGES, True), (Kind.MAPS, True), (Kind.ROWS, False), (Kind.ROWS, True)]
    order = [(steps.index((removal.kind, removal.of_all)), removal.start) for removal in found]
    assert order == sorted(order)
    for removal in found:
        assert removal.end <= now - MINIMUM
        assert set(removal.before.values()) == {now - MINIMUM}
        assert removal.of_all or set(removal.before) == {"PASS"}
        assert not of_images or removal.kind is Kind.IMAGES
    everything = {one.name for one in there if one.end <= now - MINIMUM and one.table is schema.image}
    assert {removal.partition.name for removal in found if removal.kind is Kind.IMAGES} == everything


def test_today_is_never_touched() -> None:
    there = {partition_of(table, NOW - timedelta(days=days)) for table in WIDTHS for days in range(30)}
    shortest = RetentionSection.model_validate(
        {"images_days": dict.fromkeys(CLASSES, 1), "rows_days": dict.fromkeys(CLASSES, 1)}
    )
    for removals in (plan.by_age(there, shortest, NOW), list(plan.by_space(there, NOW))):
        newest = max(removal.end for removal in removals)
        assert newest == datetime(2026, 11, 21, tzinfo=UTC)  # of images: of Friday; Saturday is not over for a day
        assert max(removal.end for removal in removals if removal.kind is Kind.ROWS) == datetime(
            2026, 11, 16, tzinfo=UTC
        )


def test_a_note_is_believed_for_a_week_and_for_its_classes() -> None:
    removal = Removal(Kind.IMAGES, NOW - 30 * DAY, NOW - 29 * DAY, {"PASS": NOW, "FAULT": NOW})
    today = date(2026, 11, 22)
    assert not plan.is_done(removal, None, today)
    assert plan.is_done(removal, Note(frozenset(CLASSES), date(2026, 11, 16)), today)
    assert not plan.is_done(removal, Note(frozenset({"PASS"}), today), today)
    assert not plan.is_done(removal, Note(frozenset(CLASSES), date(2026, 11, 15)), today)
    assert not plan.is_done(removal, Note(frozenset(CLASSES), date(2026, 11, 23)), today)  # by a wrong clock


def test_one_setting_may_be_changed_alone_and_goes_through_a_file() -> None:
    section = StorageSection.model_validate({"retention": {"images_days": {"PASS": 3}, "database_limit_mb": 5000}})
    assert section.retention.images_days.PASS == 3
    assert section.retention.images_days.REJECT == ImagesDays().REJECT
    assert StorageSection.model_validate_json(section.model_dump_json()) == section


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images_days": {"PASS": 366}}, r"images_days.PASS \(366\) must not be above rows_days.PASS \(365\)"),
        ({"rows_days": {"OK": 3}}, "rows_days.OK"),
        ({"images_days": {"PASS": 0}}, "images_days.PASS"),
        ({"database_limit_mb": 0}, "database_limit_mb"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RetentionSection.model_validate(changed)
