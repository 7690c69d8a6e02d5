"""The sentences for unknown options and classes: one, with what was probably meant."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

FROM_DATA = ("num_classes", "in_channels", "image_size")
"""Arguments of a network that the data set."""

MAX_LISTED = 8
"""Names that a sentence lists; of more it says where they are."""


def unknown_option(option: str, meant: Sequence[str], owner: str, known: Sequence[str], all_of: str) -> str:
    """Return the sentence for an option that there is not.

    Args:
        option: The option.
        meant: The options that were probably meant.
        owner: What has other options.
        known: The names of those.
        all_of: The command that shows all, for where they are many.
    """
    if meant:
        return f"there is no option {option}; did you mean {' or '.join(meant)}?"
    if known and len(known) <= MAX_LISTED:
        return f"there is no option {option}; {owner} has {', '.join(known)}."
    return f"there is no option {option}; `{all_of}` shows all."


def meant_classes(value: str, names: Mapping[str, str]) -> list[str]:
    """Return the classes that a wrong name may mean.

    Args:
        value: The wrong name.
        names: Classes by their names and other names, in lower case.
    """
    if value.lower() in names:
        return [names[value.lower()]]
    near = get_close_matches(value.lower(), names, n=3, cutoff=0.6)
    longer = [name for name in names if len(value) > 2 and value.lower() in name]
    return list(dict.fromkeys(names[name] for name in [*near, *longer]))[:2]


def names_of(classes: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Return classes by all their names in lower case.

    Args:
        classes: The name of each, its short name, and the ending that may be left out.
    """
    return {
        alias.lower(): name
        for name, short, ending in classes
        for alias in (name.removesuffix(ending), short, name)
        if alias
    }


def unknown_class(option: str, value: str, meant: Sequence[str], shown_by: str) -> str:
    """Return the sentence for a class that there is not.

    Args:
        option: The option that names it.
        value: Its name.
        meant: The classes that were probably meant.
        shown_by: The command that shows all.
    """
    if meant:
        return f"there is no class '{value}' for {option}; did you mean {' or '.join(meant)}?"
    return f"there is no class '{value}' for {option}; `{shown_by}` shows all, and your own has its import path."
