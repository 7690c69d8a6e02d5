"""Files of predictions: JSON, JSON Lines or CSV by the ending, written one by one, saved atomically."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import TextIO

from kd_lightning.files import atomic_write
from kd_lightning.prediction.stream import Prediction
from kd_lightning.strict_json import strict_json
from kd_lightning.wording import in_csv


@contextmanager
def results_file(
    path: Path, class_names: Sequence[str], top: int, threshold: float
) -> Iterator[Callable[[Prediction], None]]:
    """Yield a function that writes a prediction to a file.

    Args:
        path: The file; its ending is ``.json``, ``.jsonl`` or ``.csv``.
        class_names: Names of the classes, for the columns of CSV.
        top: How many of the likeliest classes ``top`` in JSON names.
        threshold: Probability in [0, 1] below which ``sure`` is false.

    Raises:
        UserError: The file cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if path.suffix.lower() == ".csv":
            yield _csv(file, class_names, threshold)
        elif path.suffix.lower() == ".jsonl":
            yield lambda prediction: print(_json_object(prediction, top, threshold), file=file)
        else:
            before = chain(["[\n"], repeat(",\n"))
            yield lambda prediction: print(
                next(before), _json_object(prediction, top, threshold), sep="", end="", file=file
            )
            file.write("\n]\n" if next(before) == ",\n" else "[]\n")


def _json_object(prediction: Prediction, top: int, threshold: float) -> str:
    best = dict(prediction.best(top))
    label, probability = next(iter(best.items()))
    values = {
        "image": prediction.image,
        "predicted_class": label,
        "probability": probability,
        "sure": probability >= threshold,
        "top": best,
        "probabilities": prediction.probabilities.tolist(),
    }
    return strict_json(values)


def _csv(file: TextIO, class_names: Sequence[str], threshold: float) -> Callable[[Prediction], None]:
    """Write the heading, and return the function that writes a row."""
    writer = csv.writer(file, lineterminator="\n")
    columns = ["image", "predicted_class", "probability", "sure", *(f"p({name})" for name in class_names)]
    writer.writerow(map(in_csv, columns))

    def write(prediction: Prediction) -> None:
        [(label, probability)] = prediction.best(1)
        sure = str(probability >= threshold).lower()
        cells = [in_csv(prediction.image), in_csv(label), probability, sure]
        writer.writerow([*cells, *prediction.probabilities.tolist()])

    return write
