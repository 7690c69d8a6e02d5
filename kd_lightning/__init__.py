"""Knowledge distillation with PyTorch Lightning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd_lightning.prediction.one_image import predict_image

__all__ = ["predict_image"]


def __getattr__(name: str) -> Any:
    """Import ``predict_image`` at its first use, so that importing the package costs nothing."""
    if name == "predict_image":
        from kd_lightning.prediction.one_image import predict_image

        return predict_image
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
