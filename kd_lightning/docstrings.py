"""What ``help`` shows of a class: its own options and those of its bases, each described where it is first named."""

import re
from inspect import Parameter, Signature, cleandoc, signature

ARGS = re.compile(r"(?<=\nArgs:\n)(?: {4}.*\n?)+")
ENTRY = re.compile(r"^ {4}(\w+): .*\n?(?: {8}.*\n?)*", re.MULTILINE)


def show_options(kind: type) -> None:
    """Give a class the signature and the docstring of all its options, those that it passes on to its bases included.

    An argument ``**options`` of ``__init__`` hides them from ``help``, editors and the API pages.
    """
    kind.__signature__ = Signature(_parameters(kind))  # type: ignore[attr-defined]
    kind.__doc__ = with_arguments(kind)


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
    return "\n\n".join([first, *([f"Args:\n{entries}"] if entries else []), *rest])


def _described(docstring: str) -> dict[str, str]:
    found = ARGS.search(docstring)
    return {entry[1]: entry[0].rstrip("\n") + "\n" for entry in ENTRY.finditer(found[0])} if found else {}


def _parameters(kind: type) -> list[Parameter]:
    """Return the arguments of a class; ``**options`` stands for those of its bases that only a name can pass."""
    found: dict[str, Parameter] = {}
    for init in (vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)):
        _, *own = signature(init).parameters.values()
        passed = [each for each in own if each.kind is not Parameter.VAR_KEYWORD]
        found |= {each.name: each for each in (_by_name(passed) if found else passed) if each.name not in found}
        if len(passed) == len(own):
            break
    return sorted(found.values(), key=lambda each: each.kind)


def _by_name(parameters: list[Parameter]) -> list[Parameter]:
    """Return the arguments that follow a ``*``, or else those with a default, as arguments that only a name passes."""
    last = [each for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
    chosen = last or [each for each in parameters if each.default is not Parameter.empty]
    return [each.replace(kind=Parameter.KEYWORD_ONLY) for each in chosen]
