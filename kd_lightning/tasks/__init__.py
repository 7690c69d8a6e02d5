"""LightningModules: one task per file, on a common base."""

from kd_lightning.tasks.classifier import Classifier
from kd_lightning.tasks.cosine import CosineDistill
from kd_lightning.tasks.distill import Distill
from kd_lightning.tasks.regress import FeatureRegressDistill
from kd_lightning.tasks.task import Task

__all__ = ["Classifier", "CosineDistill", "Distill", "FeatureRegressDistill", "Task"]
