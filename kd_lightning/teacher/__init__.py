"""The frozen teacher, and what losses need of it: asked in every step, or remembered."""

from kd_lightning.teacher.cache import NotCacheableError, TeacherCache, remember
from kd_lightning.teacher.targets import TeacherOutput, TeacherTargets
from kd_lightning.teacher.teacher import Teacher

__all__ = ["NotCacheableError", "Teacher", "TeacherCache", "TeacherOutput", "TeacherTargets", "remember"]
