"""For mkdocs.yml: the pages of classes show the options, too, that a class passes on to its bases."""

import re
from typing import Any

from griffe import Class, Extension, Function, Parameter, ParameterKind, Parameters

from kd_lightning.listing.classes import REQUIRED, Code, Option, find_class

ARGS = re.compile(r"(?<=\nArgs:\n)(?: {4}.*\n?)+")


class AllOptions(Extension):
    """Reads the options as `list` does, from the source."""

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """Complete the docstring of a class, and its signature where that ends in `**options`."""
        source, init = find_class(cls.path), cls.members.get("__init__")
        if source is None or cls.docstring is None or not source.options:
            return
        cls.docstring.value = documented(cls.docstring.value, source.options)
        if isinstance(init, Function):
            own = [one for one in init.parameters if one.kind is not ParameterKind.var_keyword]
            names = {one.name for one in own}
            others = [parameter(option) for option in source.options if option.name not in names]
            init.parameters = Parameters(*own, *others)


def parameter(option: Option) -> Parameter:
    text = str(option.default) if isinstance(option.default, Code) else repr(option.default)
    default = None if option.default is REQUIRED else text
    return Parameter(option.name, annotation=option.kind, kind=ParameterKind.keyword_only, default=default)


def documented(text: str, options: tuple[Option, ...]) -> str:
    """Return a docstring with a line in `Args` for each option."""
    lines = "".join(f"    {option.name}: {option.help}\n" for option in options if option.help)
    if ARGS.search(text):
        return ARGS.sub(lambda old: lines + "\n" * old[0].endswith("\n\n"), text + "\n")
    first, *rest = re.split(r"\n\n(?=(?:Raises|Attributes):\n)", text)
    return "\n\n".join([first, f"Args:\n{lines}", *rest])
