"""Which folders of a user's own images are splits and classes; other folders there are named and refused."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from kd_lightning.data.class_names import check_class_names
from kd_lightning.data.source import Split
from kd_lightning.errors import UserError
from kd_lightning.inference.image_files import is_image
from kd_lightning.wording import shown

SPELLINGS: dict[Split, re.Pattern[str]] = {
    "train": re.compile(r"train(ing)?([ _-]?(set|data|images))?", re.IGNORECASE),
    "val": re.compile(r"(val(id(ation)?)?|dev)([ _-]?(set|data|images))?", re.IGNORECASE),
    "test": re.compile(r"test(ing)?([ _-]?(set|data|images))?", re.IGNORECASE),
}
"""Usual names of a split's folder."""
OF_UNLABELLED = re.compile(r"un[ _-]?labell?ed([ _-]?(set|data|images))?", re.IGNORECASE)
"""Usual names of a folder of images without labels."""
OUR_OWN = {"lightning_logs/"}
"""Folders that runs write in the working directory, which may hold the images."""


class Layout(NamedTuple):
    """The folder of each split that is there, and the names of the classes, sorted."""

    folders: dict[Split, Path]
    class_names: tuple[str, ...]


def find_layout(root: Path, *, with_unlabelled: bool = False) -> Layout:
    """Find splits and classes.

    Args:
        root: Holds ``train/CLASS``, and ``val/CLASS`` and ``test/CLASS`` where there are such images, each in any usual
            spelling; or only ``CLASS``.
        with_unlabelled: Whether there are training images without labels. Then ``train`` may be missing, and the
            classes are those of ``test``.

    Raises:
        UserError: It holds something else, or images that would be ignored.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder of your images with --data.root.")
    folders = _split_folders(root, with_unlabelled)
    first = folders.get("train") or folders["test"]
    names = _labelled_in(root) if first == root else _folders_in(first)
    if len(names) < 2 or all(map(split_of, names)):  # the second: splits in train/
        raise UserError(_expected(root))
    check_class_names(names)
    for folder in folders.values():
        _check_classes(folder, names, first)
    return Layout(folders, tuple(names))


def split_of(name: str) -> Split | None:
    """Return the split that a folder's name means."""
    return next((split for split, spelling in SPELLINGS.items() if spelling.fullmatch(name)), None)


def check_level(classes: Mapping[Path, Sequence[str]]) -> None:
    """Raise if class folders hold splits, or no images but folders that do: the root may be at another level.

    Args:
        classes: The names of the images that were found in each class folder.
    """
    deeper = []
    for folder, images in classes.items():
        below = {name.removeprefix(f"{folder.as_posix()}/").rpartition("/")[0].partition("/")[0] for name in images}
        splits = sorted(filter(split_of, below))
        if len(splits) > 1 or (splits and below - {""} == set(splits)):
            raise UserError(
                f"the class folder {folder} holds {_listed(splits)}, but splits hold the classes and not the other "
                "way; choose a folder that holds train/CLASS/IMAGE with --data.root."
            )
        if images and "" not in below:
            deeper.append(folder)
    if deeper:
        folder = next((folder for folder in deeper if "train" in folder.name.lower()), deeper[0])
        classes_in = Path(classes[folder][0]).parents[1]
        raise UserError(
            f"{folder} holds no images itself, but folders that do ({_listed(_folders_in(folder))}): if the folders in "
            f"{classes_in} are the classes, give --data.root {classes_in}, or lay them out as train/CLASS and "
            f"test/CLASS; if {folder.name} is a class, move its images up into it."
        )


def _labelled_in(root: Path) -> list[str]:
    """Return the names of the folders in the root, without one of unlabelled images."""
    return [name for name in _folders_in(root) if not OF_UNLABELLED.fullmatch(name)]


def _split_folders(root: Path, with_unlabelled: bool) -> dict[Split, Path]:
    """Return the folder of each split that is there; a folder of class folders is ``train``."""
    found: dict[Split, str] = {}
    others = []
    for name in _labelled_in(root):
        split = split_of(name)
        if split is None:
            others.append(name)
        elif split in found:
            raise UserError(f"{root} holds {found[split]} and {name}, which both mean {split}; keep one of them.")
        else:
            found[split] = name
    if not with_unlabelled and (unused := set(_folders_in(root)) - set(_labelled_in(root))):
        rank_zero_warn(f"{shown(root / min(unused))} is not used; --data.unlabelled trains on its images, too.")
    if "train" not in found and not (with_unlabelled and "test" in found):
        if found:
            raise UserError(_expected(root))
        _look_beside(root)
        return {"train": root}
    beside = found.get("train") or found["test"]
    if others:
        raise UserError(
            f"{root} holds {_listed(others)} beside {beside}, which would not be seen; name splits train, val, test "
            "and unlabelled, and take other folders away."
        )
    if images := _images_in(root):
        rank_zero_warn(f"{shown(root)} holds {_listed(images)} beside {beside}; images there are not used.")
    return {split: root / found[split] for split in SPELLINGS if split in found}


def _look_beside(root: Path) -> None:
    """Warn where the folder is itself a split, whose sibling splits are then ignored."""
    place = root.resolve()
    if split_of(place.name) is None:
        return
    siblings: list[str] = []
    with suppress(UserError):  # it need not be readable
        siblings = [name for name in _folders_in(place.parent) if split_of(name) and name != place.name]
    if siblings:
        rank_zero_warn(
            f"{shown(root)} lies beside {_listed(siblings)}, which is not used; --data.root {shown(place.parent)} "
            "takes all splits."
        )


def _check_classes(folder: Path, names: Sequence[str], first: Path) -> None:
    """Raise if a split holds images that belong to no class, or a class without training images."""
    if images := _images_in(folder):
        raise UserError(f"{folder} holds {_listed(images)} in no class folder; move images into class folders or away.")
    unknown = [] if folder == first else sorted(set(_folders_in(folder)) - set(names))
    if unknown:
        raise UserError(
            f"{folder} holds {_listed(unknown)}, but {first} has no class of that name; "
            "rename the folder or add images there."
        )


def _images_in(folder: Path) -> list[str]:
    return [name for name in _entries(folder) if not name.endswith("/") and is_image(f"{folder.as_posix()}/{name}")]


def _folders_in(folder: Path) -> list[str]:
    return [name.removesuffix("/") for name in _entries(folder) if name.endswith("/") and name not in OUR_OWN]


def _entries(folder: Path) -> list[str]:
    """List what lies in a folder, sorted, without hidden entries; the names of folders end with a slash.

    Raises:
        UserError: It cannot be listed, or holds a broken link, which may have led to a folder of images.
    """
    names = []
    try:
        for entry in folder.iterdir():
            if entry.name.startswith("."):
                continue
            if not entry.exists():
                raise UserError(f"the link {entry} leads nowhere that can be read; fix it or remove it.")
            names.append(f"{entry.name}/" if entry.is_dir() else entry.name)
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror}; make the folder readable.") from error
    return sorted(names, key=lambda name: name.removesuffix("/"))


def _expected(root: Path) -> str:
    folders = _folders_in(root)
    inner = [root / name for name in folders if "train" in map(split_of, _folders_in(root / name))]
    if not inner and len(folders) == 1 and len(_folders_in(root / folders[0])) > 1:
        inner = [root / folders[0]]
    better = f", as in --data.root {inner[0]}" if inner else ""
    return (
        f"{root} must hold train/CLASS/IMAGE and test/CLASS/IMAGE (val/ and test/ may be missing), or CLASS/IMAGE, "
        f"with two classes or more, but it holds {_listed(_entries(root))}; choose the right folder with --data.root"
        f"{better}."
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + more or "nothing"
