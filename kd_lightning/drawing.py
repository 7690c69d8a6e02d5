"""Colours, fonts and text that is cut to a width, for drawn sheets of images."""

from functools import cache

from PIL import ImageFont

from kd_lightning.wording import shown

INK, FAINT, PAPER = "#1f2328", "#6e7781", "#ffffff"


@cache
def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return the font of a height in pixels."""
    return ImageFont.load_default(size)


def cut(text: str, size: int, width: float, *, keep_end: bool = False) -> str:
    """Return as much of a text as fits into a width, without control characters.

    Args:
        text: Any text.
        size: The font's height in pixels.
        width: The width in pixels.
        keep_end: Whether the beginning is cut off and not the end.
    """
    text = shown(text)
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(f"{text}…") > width:
        text = text[1:] if keep_end else text[:-1]
    return f"…{text}" if keep_end else f"{text}…"
