"""The checkpoints that every fit keeps."""

from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class KeepCheckpoint(ModelCheckpoint):
    """A checkpoint that is replaced by the next one of its kind.

    It is a class of its own, so that to Lightning a user's own ``ModelCheckpoint`` is another one.

    Args:
        name: The file's name without its ending.
        options: Of ``ModelCheckpoint``.
    """

    works_with_fast_path = True

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(filename=name, enable_version_counter=False, **options)
