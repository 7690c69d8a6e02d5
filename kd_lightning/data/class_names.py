"""What class names must be, so that a terminal, a table, a picture and a file can say them."""

from collections.abc import Iterable

from kd_lightning.errors import UserError
from kd_lightning.wording import shown


def check_class_names(names: Iterable[str]) -> None:
    """Raise ``UserError`` for a name with control characters or line breaks, or made of bytes that are not UTF-8."""
    for name in names:
        if shown(name) != name:
            raise UserError(
                f"the class name '{shown(name)}' has a control character, a line break or bytes that are not UTF-8; "
                "rename the class or its folder."
            )
