"""When and where: what happens around training."""

from kd_lightning.callbacks.export_onnx import ExportONNX, QuantizeONNX
from kd_lightning.callbacks.interrupt import SaveOnInterrupt, StoppedByUser
from kd_lightning.callbacks.log_contact_sheet import LogContactSheet
from kd_lightning.callbacks.log_gradient_norms import LogGradientNorms
from kd_lightning.callbacks.log_hyperparameters import LogHyperparameters
from kd_lightning.callbacks.log_test_pictures import LogTestPictures
from kd_lightning.callbacks.run_summary import RunSummary
from kd_lightning.callbacks.save_weights import SaveWeights

__all__ = [
    "ExportONNX",
    "LogContactSheet",
    "LogGradientNorms",
    "LogHyperparameters",
    "LogTestPictures",
    "QuantizeONNX",
    "RunSummary",
    "SaveOnInterrupt",
    "SaveWeights",
    "StoppedByUser",
]
