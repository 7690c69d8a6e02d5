"""What a student learns from: frozen teachers, or a file of outputs; and what losses need of it, computed or cached."""

from kd_lightning.teacher.base import AnyTeacher
from kd_lightning.teacher.cache import NotCacheableError, TeacherCache, cache_outputs
from kd_lightning.teacher.file_teacher import FileTargets, FileTeacher
from kd_lightning.teacher.targets import TeacherOutput, TeacherTargets
from kd_lightning.teacher.teacher import Teacher
from kd_lightning.teacher.teachers import Teachers

__all__ = [
    "AnyTeacher",
    "FileTargets",
    "FileTeacher",
    "NotCacheableError",
    "Teacher",
    "TeacherCache",
    "TeacherOutput",
    "TeacherTargets",
    "Teachers",
    "cache_outputs",
]
