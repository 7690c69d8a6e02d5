"""The command ``predict``."""

from collections.abc import Sequence

from kd_lightning.prediction.arguments import parse


def main(args: Sequence[str]) -> int:
    """Predict the named images and return the exit status: 1 where some could not be read.

    Args:
        args: ``["predict", ...]``.

    Raises:
        UserError: An option, the model or a folder is wrong.
    """
    options = parse(args[1:])
    from kd_lightning.prediction.run import run  # after parsing: --help needs neither NumPy nor onnxruntime

    return run(options)
