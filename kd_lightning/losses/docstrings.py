"""Docstrings of losses: an argument is described once, in the class that has it first."""

import re
from inspect import cleandoc, signature

ARGS = re.compile(r"(?<=\nArgs:\n)(?: {4}.*\n?)+")
ENTRY = re.compile(r"^ {4}(\w+): .*\n?(?: {8}.*\n?)*", re.MULTILINE)


def with_arguments(kind: type) -> str | None:
    """Return a class's docstring with the lines of its bases for arguments that its own docstring does not describe."""
    if kind.__doc__ is None:
        return None
    own, known = cleandoc(kind.__doc__), dict[str, str]()
    for base in reversed(kind.__mro__[1:]):
        known |= _described(cleandoc(base.__doc__ or ""))
    known |= _described(own)
    entries = "".join(known[name] for name in signature(kind).parameters if name in known).rstrip("\n")
    if ARGS.search(own):
        return ARGS.sub(lambda old: entries + "\n" * old[0].endswith("\n"), own)
    first, *rest = re.split(r"\n\n(?=(?:Raises|Attributes):\n)", own)
    return "\n\n".join([first, f"Args:\n{entries}", *rest])


def _described(docstring: str) -> dict[str, str]:
    found = ARGS.search(docstring)
    return {entry[1]: entry[0].rstrip("\n") + "\n" for entry in ENTRY.finditer(found[0])} if found else {}
