"""Labelled images in the tables of Hugging Face's ``datasets``: their splits, their columns, and the rows' images."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from kd_lightning.data.folder_layout import split_of
from kd_lightning.data.source import Split
from kd_lightning.errors import UserError
from kd_lightning.files import file_state
from kd_lightning.inference.images import EncodedImage, ImageFile
from kd_lightning.wording import counted, shortened, shown

READERS = {".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json", ".csv": "csv"}
"""The library's reader of a single file, by its ending."""

TEXT = ("string", "large_string")
BYTES = ("binary", "large_binary")
WHOLE = re.compile(r"u?int\d+|bool")
NO_LABEL = (None, -1)
"""The label of images whose class is kept secret."""


def load_splits(path: str, subset: str | None, revision: str | None) -> dict[Split, Any]:
    """Return a data set's splits, as the library's ``Dataset``, without decoding its images; ``train`` is the first.

    Args:
        path: A folder or file, or the data set's name on the hub.
        subset: Its part, where it has several.
        revision: The version on the hub.

    Raises:
        UserError: The library is not installed, the data set cannot be loaded, or it has no training images.
    """
    try:
        import datasets
        from tqdm import tqdm
    except ImportError as error:
        raise UserError(
            "HuggingFaceDataModule needs the package datasets; install it with `pip install datasets`."
        ) from error
    tqdm.set_lock(RLock())  # the library's bars; their own lock leaks a semaphore of each worker that a study stops
    if not is_on_hub(path) and not Path(path).exists():
        raise UserError(f"there is no folder or file {path}; give one with --data.path, or a name of the hub.")
    reader = READERS.get(Path(path).suffix) if Path(path).is_file() else None
    source: dict[str, Any] = {"path": path} if reader is None else {"path": reader, "data_files": {"train": path}}
    try:
        loaded = datasets.load_dataset(**source, name=subset, revision=revision, keep_in_memory=False)
    except Exception as error:  # the readers of many formats and the hub's client raise anything
        raise UserError(
            f"the data set {path} cannot be loaded ({_reason(error)}); give --data.path a folder of parquet, arrow, "
            "JSON or image files, or a name of the hub, such as uoft-cs/cifar10."
        ) from error
    return _named(path, loaded)


def is_on_hub(path: str) -> bool:
    """Return whether a path is a name on the hub: nothing here has it."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) is not None and not Path(path).exists()


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error  # the library's own error often says only that one occurred
    return shortened(shown(" ".join(str(cause).split())).rstrip("."), 300) or type(cause).__name__


def _named(path: str, loaded: Mapping[str, Any]) -> dict[Split, Any]:
    """Return the splits under our names, and warn of others."""
    found: dict[Split, str] = {}
    for name in loaded:
        split = split_of(name)
        if split in found:
            raise UserError(f"{path} has the splits {found[split]} and {name}, which both mean {split}; remove one.")
        if split is not None:
            found[split] = name
    if "train" not in found:
        raise UserError(f"{path} has no split train, but {', '.join(map(shown, loaded))}; rename one of its files.")
    if others := [shown(name) for name in loaded if name not in found.values()]:
        rank_zero_warn(f"{shown(path)} also has {', '.join(others)}, which is not used.")
    splits: tuple[Split, ...] = ("train", "val", "test")
    return {split: loaded[found[split]] for split in splits if split in found}


def find_column(table: Any, given: str | None, kind: str, usual: Sequence[str]) -> str:
    """Return the column of images or labels: the given one, or the only one of its kind, or else one of a usual name.

    Args:
        table: A split.
        given: The name that the user gave.
        kind: ``Image`` or ``ClassLabel``, the library's kind of the column.
        usual: Usual names of such columns where none is of that kind.

    Raises:
        UserError: There is no such column, or there are several.
    """
    features = table.features
    of_kind = [name for name, feature in features.items() if type(feature).__name__ == kind]
    found = [given] if given is not None else of_kind or [name for name in usual if name in features]
    if len(found) == 1 and found[0] in features:
        return found[0]
    option = "image_column" if kind == "Image" else "label_column"
    columns = ", ".join(f"{shown(name)} ({_kind(feature)})" for name, feature in features.items())
    problem = (
        f"there is no column '{given}'" if given is not None else f"{len(found) or 'no'} columns are of the kind {kind}"
    )
    raise UserError(f"{problem}; choose one with --data.{option}: the columns are {columns}.")


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else type(feature).__name__


def labels_of(table: Any, column: str) -> list[Any]:
    """Return the values of a split's column of labels."""
    return table.select_columns(column).with_format("arrow")[:].column(0).to_pylist()  # type: ignore[no-any-return]


def classes_of(table: Any, column: str) -> dict[Any, str]:
    """Return the names of the classes by the labels: those of a ``ClassLabel``, or the training images' values, sorted.

    Raises:
        UserError: The column holds no classes.
    """
    feature = table.features[column]
    if type(feature).__name__ == "ClassLabel":
        return dict(enumerate(feature.names))
    if _kind(feature) not in TEXT and not WHOLE.fullmatch(_kind(feature)):
        raise UserError(
            f"the column {column} holds {_kind(feature)}, not classes; choose a ClassLabel, texts or whole numbers "
            "with --data.label_column."
        )
    values = sorted({*labels_of(table, column)} - {None})
    if len(values) < 2:
        raise UserError(f"the column {column} has fewer than two classes; choose another with --data.label_column.")
    return {value: str(value) for value in values}


def class_numbers(split: Split, labels: Sequence[Any], classes: Mapping[Any, str]) -> list[int] | None:
    """Return the labels' class indices; ``None`` where a split's labels are all kept secret.

    Raises:
        UserError: Some images have no label, or a class that no training image has.
    """
    numbers = {value: number for number, value in enumerate(classes)}
    missing = sum(label in NO_LABEL and label not in numbers for label in labels)
    if missing and missing == len(labels) and split != "train":
        rank_zero_warn(f"the images of the split {split} have no labels, so it is not used.")
        return None
    if missing:
        raise UserError(
            f"{counted(missing, 'image')} of {len(labels):,} in the split {split} have no label; remove them."
        )
    if unknown := sorted({label for label in labels if label not in numbers}, key=str):
        raise UserError(
            f"the split {split} has the class {shown(unknown[0])}, which no training image has; add some or remove it."
        )
    return [numbers[label] for label in labels]


def images_of(split: Split, table: Any, column: str, folder: Path) -> list[ImageFile]:
    """Return a split's images: paths where the table has only these, relative ones below ``folder``; else rows of it.

    Raises:
        UserError: The column holds no images.
    """
    import datasets

    kind = _kind(table.features[column])
    if kind not in ("Image", "dict", *TEXT, *BYTES):
        raise UserError(f"the column {column} holds {kind}, not images; choose another with --data.image_column.")
    alone = table.select_columns(column)
    try:
        rows = alone.cast_column(column, datasets.Image(decode=False)).flatten().with_format("arrow")
    except Exception as error:  # pyarrow's and the library's errors share no narrower base
        raise UserError(
            f"the column {column} holds no images ({_reason(error)}); choose --data.image_column."
        ) from error
    rows = rows.rename_columns({name: name.rpartition(".")[2] for name in rows.column_names})  # bytes, path
    return list(_rows(split, rows, f"{column} {_states(table)}", folder, _size(table)))


def _rows(split: Split, rows: Any, state: str, folder: Path, size: int) -> Iterator[ImageFile]:
    whole = rows[:]
    paths, empty = whole.column("path").to_pylist(), whole.column("bytes").is_null().to_pylist()
    for row, (path, is_path) in enumerate(zip(paths, empty, strict=True)):
        if is_path and path:
            yield (folder / path).as_posix()
        else:
            name = f"{split} row {row}" + (f" ({path})" if path else "")
            yield EncodedImage(name, partial(_read, rows, row), size, state)


def _read(rows: Any, row: int) -> bytes | None:
    return rows[row].column("bytes")[0].as_py()  # type: ignore[no-any-return]


def _states(table: Any) -> str:
    """Return a text that changes with the library's own files, which it writes anew where a data set changes."""
    return str([(file["filename"], file_state(file["filename"])) for file in table.cache_files])


def _size(table: Any) -> int:
    """Return the bytes of a row, about."""
    states = [file_state(file["filename"]) for file in table.cache_files]
    return sum(state.size for state in states if state is not None) // max(1, len(table))
