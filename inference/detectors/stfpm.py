"""STFPM: a student that learnt good images from a pretrained teacher, and fails to follow it elsewhere.

Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.backbones import Backbone
from inference.training.descent import DescentOptions, descend, learnable
from inference.training.detector import HOLD_OUT, Summary
from inference.training.features import NetworkDetector
from inference.training.progress import Progress
from inference.training.pyramid import Fusion, PyramidOptions, Teacher, distances

SUMMARY = Summary(
    title="STFPM",
    paradigm="distillation",
    paper="Wang et al., Student-Teacher Feature Pyramid Matching for Anomaly Detection, BMVC 2021",
    what_for="one product in steady pose, with minutes to learn it; a small bundle whatever the number of images",
    localises=True,
    fitting="minutes",
    images=50,
)


class Options(PyramidOptions, DescentOptions):
    """What can be chosen."""

    steps: int = Field(default=200, ge=1, le=1_000_000, description="steps of learning, at most")


class Detector(NetworkDetector[Options]):
    """Teacher and student of one architecture, compared at several scales."""

    folds: ClassVar[int] = HOLD_OUT

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Teach a student of random weights the teacher's features of good images (N, C, size_px, size_px)."""
        teacher = Teacher(self.options.network(), features)
        student = self.options.untrained()
        lessons = teacher.lessons(features)
        head = StudentTeacher(teacher, student, [level.shape[-1] for level in lessons])
        learnable(head.student)

        def loss(places: Tensor) -> Tensor:
            answers = student(features[places].expand(-1, 3, -1, -1))
            maps = distances([level[places] for level in lessons], answers)
            return torch.stack([one.mean() for one in maps]).sum()

        descend(head.student, loss, len(features), self.options, seed, progress)
        return head


class StudentTeacher(nn.Module):
    """How far a student's features are from its teacher's."""

    def __init__(self, teacher: Teacher, student: Backbone, sides: list[int]) -> None:
        super().__init__()
        assert isinstance(student, nn.Module)  # noqa: S101 - every backbone is one, which a protocol cannot say
        self.teacher, self.student, self.fusion = teacher, student, Fusion(sides)

    def forward(self, images: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of images (N, 1 or 3, size_px, size_px)."""
        anomaly_map: Tensor = self.fusion(distances(self.teacher(images), self.student(images.expand(-1, 3, -1, -1))))
        return anomaly_map
