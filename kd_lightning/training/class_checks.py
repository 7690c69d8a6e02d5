"""A config may only build classes of the kind that an option takes; its functions are never called or passed on."""

import inspect
from collections.abc import Callable, Iterator
from pkgutil import resolve_name
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from jsonargparse import Namespace

from kd_lightning.errors import UserError

NO_KINDS = ("builtins", "collections.abc", "inspect", "types", "typing")
"""Modules of types that do not restrict what is built: ``Any``, ``object``, a bare ``Callable``, or no type at all."""


class _Slot(NamedTuple):
    """The values that an argument of a class takes.

    Attributes:
        kinds: The classes of its values, as far as its type tells; those of the return value for a callable.
        default: Its default.
    """

    kinds: tuple[type, ...]
    default: Any


def check_classes(config: Namespace) -> None:
    """Refuse a config that names a function, or a class for an argument whose type names no class.

    The parser itself refuses a class of another kind than its option's, but it calls whatever function is named for an
    argument of the type ``Callable``. Nothing is built before this check.

    Args:
        config: A parsed config.

    Raises:
        UserError: There is one; the message names the option and what it takes.
    """
    for name, value in config.as_dict().items():
        _check(value, "" if isinstance(value, dict) and name == config.get("subcommand") else name, None)


def _check(value: Any, option: str, slot: _Slot | None) -> None:
    """Check a value and all values in it; the parser itself has checked its own options."""
    if isinstance(value, dict) and "class_path" in value:
        _check_class(value["class_path"], option, slot)
        kind = resolve_name(value["class_path"])
        for name, argument in (value.get("init_args") or {}).items():
            _check(argument, f"{option}.{name}", _slot(kind, name))
    elif isinstance(value, dict):
        for name, item in value.items():
            _check(item, f"{option}.{name}".lstrip("."), slot)
    elif isinstance(value, list | tuple | set):
        for item in value:
            _check(item, option, slot)
    elif callable(value) and not isinstance(value, type) and not _is_given_by_code(value, slot):
        raise _refused(option, import_path(value), slot)


def import_path(function: Any) -> str:
    """Return the import path of a function or another callable, as far as it is known."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", repr(function))
    return f"{module}.{name}" if module else str(name)


def _check_class(path: str, option: str, slot: _Slot | None) -> None:
    if slot is not None and not slot.kinds:
        raise _refused(option, path, slot)
    kind = resolve_name(path)
    if not isinstance(kind, type) or not (slot is None or issubclass(kind, slot.kinds)):
        raise _refused(option, path, slot)


def _refused(option: str, given: str, slot: _Slot | None) -> UserError:
    if slot is None or slot.kinds:
        names = " or ".join(kind.__name__ for kind in slot.kinds) if slot else "what it takes"
        return UserError(f"--{option} is {given}, but a config can only name a class there, a subclass of {names}.")
    return UserError(
        f"--{option} is {given}, but functions, and classes of an unknown kind, come from Python and not from a "
        "config; leave it out, and give it in a subclass of your own."
    )


def _is_given_by_code(value: Any, slot: _Slot | None) -> bool:
    """Return whether an object is an argument's default, or is of the kind that it takes."""
    if slot is None:
        return not inspect.isroutine(value)
    is_default = value is slot.default or (not inspect.isroutine(value) and type(value) is type(slot.default))
    return is_default or isinstance(value, slot.kinds)


def _slot(kind: type, name: str) -> _Slot:
    """Look an argument up in the constructor of a class or of its bases, which get the other arguments."""
    for base in inspect.getmro(kind):
        init: Callable[..., None] | None = vars(base).get("__init__")
        parameter = inspect.signature(init).parameters.get(name) if inspect.isroutine(init) else None
        if init is not None and parameter is not None:
            return _Slot(tuple(_kinds(_type(init, parameter))), parameter.default)
    return _Slot((), inspect.Parameter.empty)


def _type(init: Callable[..., None], parameter: inspect.Parameter) -> Any:
    """Return a parameter's type, which may be given as text; ``None`` where its names cannot be found."""

    def stub() -> None: ...

    stub.__annotations__ = {parameter.name: parameter.annotation}
    try:
        return get_type_hints(stub, globalns=inspect.unwrap(init).__globals__).get(parameter.name)
    except (NameError, TypeError, SyntaxError, AttributeError):
        return None


def _kinds(hint: Any) -> Iterator[type]:
    """Yield the classes in a type: in unions and containers, and in a callable's return type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Callable:
        inner = inner[-1:]
    for part in inner:
        yield from _kinds(part)
    found = hint if origin is None else origin
    if isinstance(found, type) and found.__module__ not in NO_KINDS and not getattr(found, "_is_protocol", False):
        yield found
