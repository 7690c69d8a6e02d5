"""The frozen teacher, and what losses need of it: asked in every step, or remembered."""

from kd_lightning.teacher.remembered import CannotRememberError, remember
from kd_lightning.teacher.targets import TeacherOutput, TeacherTargets
from kd_lightning.teacher.teacher import Teacher

__all__ = ["CannotRememberError", "Teacher", "TeacherOutput", "TeacherTargets", "remember"]
