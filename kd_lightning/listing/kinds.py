"""The kinds of classes that a config names, and all classes of each kind."""

import ast
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

from kd_lightning.errors import UserError
from kd_lightning.listing.classes import ClassSource, Option, find_class
from kd_lightning.listing.source import resolve
from kd_lightning.wording import did_you_mean


class Kind(NamedTuple):
    """A kind of class.

    Attributes:
        package: The package that exports all of its kind; a config has them by their bare names.
        base: The class that they are subclasses of.
        place: Where a config has them, as on the command line.
        ending: What the names of many end in, and may be left out.
    """

    package: str
    base: str
    place: str
    ending: str = ""


KINDS: dict[str, Kind] = {
    "losses": Kind("kd_lightning.losses", "Loss", "model.losses.NAME"),
    "networks": Kind("kd_lightning.networks", "Network", "model.network", "Network"),
    "teachers": Kind("kd_lightning.teacher", "AnyTeacher", "model.teacher"),
    "tasks": Kind("kd_lightning.tasks", "Task", "model"),
    "data": Kind("kd_lightning.data", "ImageDataModule", "data", "DataModule"),
    "augmentations": Kind("kd_lightning.data.augment", "Augmentation", "data.augment"),
}


class Entry(NamedTuple):
    """A class of a kind."""

    kind: Kind
    source: ClassSource

    @property
    def class_path(self) -> str:
        """What a config writes: the bare name, or the import path of a class of the user's."""
        return self.source.name if self.source.path.startswith("kd_lightning.") else self.source.path

    @property
    def options(self) -> tuple[Option, ...]:
        """The options that a config sets, without those that a network takes from the data."""
        from_data = _base_options(self.kind) if self.kind.base == "Network" else set[str]()
        return tuple(option for option in self.source.options if option.name not in from_data)

    @property
    def own_options(self) -> tuple[Option, ...]:
        """The options that not all of its kind have."""
        shared = _base_options(self.kind) | {"seed"}  # an augmentation's, which has no base
        return tuple(option for option in self.options if option.name not in shared)

    @property
    def names(self) -> set[str]:
        """The names that find it, in lower case."""
        name = self.source.name.lower()
        return {name, self.source.short.lower(), name.removesuffix(self.kind.ending.lower())} - {""}


def entries(kind: Kind) -> list[Entry]:
    """Return all of a kind that the project has for configs, by name."""
    exported = resolve(f"{kind.package}.__all__")
    assert exported is not None
    assert isinstance(exported.node, ast.expr)
    names = sorted(ast.literal_eval(exported.node), key=str.lower)
    sources = [find_class(f"{kind.package}.{name}") for name in names]
    return [Entry(kind, source) for source in sources if source and _is_a(source, kind) and not source.is_abstract]


@cache
def _base(kind: Kind) -> ClassSource:
    base = find_class(f"{kind.package}.{kind.base}")
    assert base is not None
    return base


def _base_options(kind: Kind) -> set[str]:
    return {option.name for option in _base(kind).options}


def _is_a(source: ClassSource, kind: Kind) -> bool:
    return _base(kind).path in [base.path for base in source.lineage[1:]]


def find_entry(name: str, kind_name: str) -> Entry:
    """Find a class of a kind by its name, its short name or its import path.

    Args:
        name: The name; case does not matter.
        kind_name: The kind.

    Raises:
        UserError: There is none.
    """
    kind = KINDS[kind_name]
    if "." in name:
        return _find_own(name, kind, kind_name)
    known = {other: entry for entry in entries(kind) for other in entry.names}
    if name.lower() in known:
        return known[name.lower()]
    near = dict.fromkeys(known[other].source.name for other in get_close_matches(name.lower(), known, cutoff=0.5))
    raise UserError(
        f"there is no '{name}' in {kind_name}{did_you_mean(list(near))}; `list {kind_name}` shows all, and a class of "
        "your own has its import path, such as my_package.MyClass."
    )


def _find_own(path: str, kind: Kind, kind_name: str) -> Entry:
    source = find_class(path)
    if source is None:
        raise UserError(
            f"there is no class {path} that can be read from here; fix the path, or see `list {kind_name}`."
        )
    if not _is_a(source, kind):
        raise UserError(f"{path} is not a subclass of {kind.base}, as {kind_name} must be; see `list {kind_name}`.")
    return Entry(kind, source)


def kinds_with(name: str) -> list[str]:
    """Return the kinds that have a class of a name."""
    return [kind for kind, values in KINDS.items() if any(name.lower() in entry.names for entry in entries(values))]
