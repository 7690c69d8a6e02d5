"""The frozen teacher and the outputs that losses need of it: computed in every step, or cached."""

from kd_lightning.teacher.cache import NotCacheableError, TeacherCache, cache_outputs
from kd_lightning.teacher.targets import TeacherOutput, TeacherTargets
from kd_lightning.teacher.teacher import Teacher

__all__ = ["NotCacheableError", "Teacher", "TeacherCache", "TeacherOutput", "TeacherTargets", "cache_outputs"]
