"""What self-contained HTML pages have in common: the frame, colours and type, and the switch between light and dark."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template


def page(room: str, title: str, *, policy: str, **parts: str) -> str:
    """Return a whole page.

    Args:
        room: The package with the page's ``page.html``, the body, and ``page.css``.
        title: Its title, plain text.
        policy: What its Content-Security-Policy allows besides styles and images in the page itself.
        parts: What the body's names stand for, HTML.
    """
    body = Template(_text(room, "page.html")).substitute(parts)
    style = _text(__name__, "common.css") + _text(room, "page.css")
    return Template(_text(__name__, "frame.html")).substitute(
        title=escape(title), policy=policy, style=style, body=body.rstrip()
    )


def script(room: str, names: Sequence[str]) -> str:
    """Return a page's scripts as one: the theme's, and those of a package."""
    return "\n".join([_text(__name__, "theme.js"), *(_text(room, name) for name in names)])


def _text(package: str, name: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8")
