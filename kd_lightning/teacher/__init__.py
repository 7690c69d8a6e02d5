"""The frozen teacher, and what losses need of it: asked in every step, or remembered."""

from kd_lightning.teacher.remembered import CannotRememberError, Remembered, remember
from kd_lightning.teacher.targets import TeacherOutput, TeacherTargets
from kd_lightning.teacher.teacher import Teacher

__all__ = ["CannotRememberError", "Remembered", "Teacher", "TeacherOutput", "TeacherTargets", "remember"]
