"""The one error that a user is shown as a sentence instead of a traceback."""


class UserError(Exception):
    """A mistake that the user can fix: one sentence with the value, what was expected and the fix.

    The command line prints it without a traceback and exits with status 2.
    """


def require_object(name: str, value: object, kind: type, call: str, known_as: str = "") -> None:
    """Refuse a class, a name or a dict where an object is wanted, in Python.

    Args:
        name: The argument.
        value: Its value.
        kind: What it must be an object of.
        call: An example of the right call.
        known_as: What a user calls such an object; the name of ``kind`` by default.

    Raises:
        UserError: It is of another kind.
    """
    if isinstance(value, kind):
        return
    given = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
    wanted = known_as or kind.__name__
    article = "an" if wanted[0] in "AEIOU" else "a"
    raise UserError(f"{name} is {given}, but it must be {article} {wanted} object: {call}.")
