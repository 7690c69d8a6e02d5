"""Run ``predict``: find the images, stream them through the network, print and write its predictions."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from kd_lightning.errors import UserError
from kd_lightning.inference.image_files import IMAGE_SUFFIXES, image_names, left_out_line
from kd_lightning.inference.images import BrokenImageError
from kd_lightning.inference.onnx_predictor import Predictor
from kd_lightning.machine.cpu import cores
from kd_lightning.prediction.arguments import Options
from kd_lightning.prediction.outputs import results_file
from kd_lightning.prediction.predictors import BEYOND, open_predictor
from kd_lightning.prediction.sheet import contact_sheet
from kd_lightning.prediction.stream import Prediction, predict_files
from kd_lightning.prediction.table import Table
from kd_lightning.wording import counted, shown

Show = Callable[[Prediction], None]
MAX_THREADS = 8  # with more, threads that decode small images wait for Python's lock


def run(options: Options) -> int:
    """Predict and return the exit status: 1 where images could not be read, else 0.

    Raises:
        UserError: There are no images, the model cannot be opened, or a file cannot be written.
    """
    files = list_images(options.images)
    usable = 0 if cores() == os.cpu_count() else cores()  # 0: the libraries count cores themselves
    predictor = open_predictor(options.model, options.threads or usable, options.network)
    with ExitStack() as stack:
        broken = _predict_all(predictor, files, options, _outputs(stack, predictor, files, options))
    if predictor.clipped:
        more = f" (and {counted(len(predictor.clipped) - 1, 'other')})" if len(predictor.clipped) > 1 else ""
        print(f"{shown(min(predictor.clipped))}{more} {BEYOND}.", file=sys.stderr)
    if broken:
        print(f"{broken:,} of {len(files):,} images could not be read.", file=sys.stderr)
    return 1 if broken else 0


def list_images(named: Sequence[str]) -> list[str]:
    """Return the given files and those in the given folders.

    Raises:
        UserError: A name leads nowhere, or a folder holds no images.
    """
    files: list[str] = []
    for name in named:
        if Path(name).is_dir():
            left_out = Counter[str]()
            found = image_names(name, left_out=left_out)
            line = left_out_line(name, left_out)
            if not found:
                counting = line or f"{', '.join(IMAGE_SUFFIXES)} files count."
                raise UserError(f"the folder {name} holds no images; {counting}")
            if line is not None:
                print(line, file=sys.stderr)
            files += found
        elif os.path.lexists(name):
            files.append(name)
        else:
            raise UserError(f"there is no image or folder {name}; give the path of one.")
    return files


def _outputs(stack: ExitStack, predictor: Predictor, files: Sequence[str], options: Options) -> list[Show]:
    """Open all outputs of the results; the stack closes them."""
    names, top, threshold = predictor.info.class_names, options.top, options.threshold
    outputs: list[Show] = [Table(files, names, top, threshold).show]
    if options.output:
        outputs.append(stack.enter_context(results_file(options.output, names, top, threshold)))
    if options.sheet:
        sheet = contact_sheet(options.sheet, files, Path(predictor.path).name, threshold, predictor.info.pixel_range)
        outputs.append(stack.enter_context(sheet))
    return outputs


def _predict_all(predictor: Predictor, files: Sequence[str], options: Options, outputs: Sequence[Show]) -> int:
    """Send each prediction to all outputs, name each broken image, and return the number of broken images."""
    broken = 0
    threads = options.threads or min(MAX_THREADS, cores())
    with closing(predict_files(predictor, files, options.batch_size, threads)) as results:
        for result in results:
            if isinstance(result, BrokenImageError):
                broken += 1
                print(shown(result), file=sys.stderr)
                continue
            for show in outputs:
                show(result)
    return broken
