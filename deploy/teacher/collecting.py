"""Collect good images from the live camera: exact pixels of parts as they are stored, up to a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.errors import InputError, StoreError
from config.lessons import State
from config.log import Condition
from deploy.teacher.fresh import Fresh
from deploy.teacher.stored import BEFORE_CAMERAS_KNOW, stored

if TYPE_CHECKING:
    from deploy.teacher.work import Job
    from storage.query.answers import Part

_LOOK_S = 1.0


def collect(job: Job) -> None:
    """Take parts until there are enough good images; what was left out does not count."""
    lesson, lessons = job.lesson, job.lessons
    wanted = lesson.collecting
    query = stored(job.home)
    fresh = Fresh(
        query,
        recipe=lesson.recipe,
        camera=lesson.camera,
        verdicts=wanted.verdicts,
        every_parts=wanted.every_parts,
        since=lesson.since + BEFORE_CAMERAS_KNOW,
    )
    keep_free_bytes = 2_000_000 * job.home.read_station().storage.free_disk_mb
    away = Condition("lesson_waits", job.counters)
    left_out = set(lesson.left_out)
    have = sum(name not in left_out for name in lessons.images(lesson.id))
    why = ""
    while have < wanted.count and not why:
        job.tell("collect", have, wanted.count)
        try:
            for part, content in fresh.look():
                why = lessons.problem(len(content), keep_free_bytes) or _odd(part, lesson.camera)
                if why or have >= wanted.count:
                    break
                have += lessons.add(lesson.id, name_of(part), content)
                job.tell("collect", have, wanted.count)
        except StoreError as error:
            away.occur(error=str(error))
        except InputError as error:  # a bound of the lesson's own
            why = str(error)
        else:
            away.end()
        if have < wanted.count and not why and not job.wait(_LOOK_S):
            break
    job.shed(fresh.shed)
    detail = f"{have} of {wanted.count} images: {why}" if why else ""
    if why or have >= wanted.count:
        job.finish(State.READY, collected=len(lessons.images(lesson.id)), detail=detail)


def name_of(part: Part) -> str:
    """Return what the image of a part is called."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in part.part_id)[-100:] + ".png"


def _odd(part: Part, camera: str) -> str:
    """Return what is wrong with a part's image as one to learn from."""
    kept = next(image for image in part.images if image.camera == camera and image.purpose == "image")
    seen = next((view.frame_shape for view in part.details if view.camera == camera), None)
    if seen is not None and (kept.height_px, kept.width_px) != seen[:2]:
        return (
            f"{part.part_id}: its image has {kept.width_px} x {kept.height_px} px, the frame had {seen[1]} x {seen[0]}"
        )
    return ""
