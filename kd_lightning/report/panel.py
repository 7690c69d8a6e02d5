"""One panel of a plot: its style and colours, and its form as SVG for the page, whose colours it takes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

INK, SOFT, LINE, CARD = "#1a1e24", "#59626e", "#e3e5e8", "#ffffff"
ROLE_COLOURS = {"teacher": "#7a5195", "baseline": "#5b6470"}
COLOURS = ("#1f6fb2", "#d9730d", "#2a8f5b", "#c2407a", "#8a6d00", "#0f8b8d", "#a63d2f", "#5c6bc0")
PALETTE = {
    INK: "ink",
    SOFT: "soft",
    LINE: "line",
    CARD: "card",
    **{colour: role for role, colour in ROLE_COLOURS.items()},
    **{colour: f"s{number}" for number, colour in enumerate(COLOURS)},
}
"""The page's names for colours, which have a dark form there."""

STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
}
DEFAULTS = (
    "font-family:[^;]*;",
    "font-size:10px;",
    "fill:none;",
    "stroke-line(join:miter|cap:(square|round));",
    "stroke-width:0.8;",
)
"""What an SVG's style says besides the page's style sheet."""

SHARED = ("clip-path", "style")
"""What neighbours in an SVG may say once."""

HOVER = "hover "
"""How the ``gid`` of an artist begins that shows the rest of it under the pointer."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a plot: its title, its size in inches, and what draws on it."""

    title: str
    size: tuple[float, float]
    draw: Callable[[Axes], None]


def save(figure: Figure, target: Path | StringIO, form: str) -> None:
    """Write a figure, arranged once."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # saving would arrange it twice again
    figure.savefig(target, format=form, dpi=120)


def to_svg(panel: Panel, title: str, salt: str) -> str:
    """Return a panel as SVG for a page that has the colours of ``PALETTE``; ``salt`` makes its ids unique there."""
    drawn = StringIO()
    with rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=panel.size, layout="constrained", frameon=False)
        axes = figure.add_subplot()
        panel.draw(axes)
        axes.patch.set_visible(False)
        save(figure, drawn, "svg")
    root = ElementTree.fromstring(drawn.getvalue())
    _, _, width, _ = root.attrib["viewBox"].split()
    svg = ElementTree.Element("svg", {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": printable(title)})
    svg.attrib["style"] = f"max-width:{1.6 * float(width):.0f}px"
    used = set(re.findall(r"#(\w+)", " ".join(value for node in root.iter() for value in node.attrib.values())))
    svg.extend(_grouped([child for node in root for child in _simplified(node, used)]))
    return ElementTree.tostring(svg, encoding="unicode").replace(" />", "/>")


def _simplified(node: ElementTree.Element, used: set[str]) -> list[ElementTree.Element]:
    """Leave out what a page does not need: namespaces, metadata, fonts, digits; turn hover texts into titles."""
    tag = node.tag.rpartition("}")[2]
    if tag in ("metadata", "style"):
        return []
    found = ElementTree.Element(tag, {key.rpartition("}")[2]: _short(key, value) for key, value in node.attrib.items()})
    found.attrib = {key: value for key, value in found.attrib.items() if value}
    if tag == "text":
        found.text = node.text
    name = node.get("id", "")
    if name not in used:
        found.attrib.pop("id", None)
    children = [child for inner in node for child in _simplified(inner, used)]
    if name.startswith(HOVER):
        area = children[-1]
        area.set("class", "hover")
        ElementTree.SubElement(area, "title").text = name.removeprefix(HOVER).replace("\u2028", "\n")
        if area.tag == "path":
            area.attrib = {"class": "hover", "d": area.attrib["d"]}
    if (tag == "g" and not found.attrib) or (tag in ("g", "defs") and not children):
        return children
    found.extend(_grouped(children))
    return [found]


def _grouped(nodes: list[ElementTree.Element], keys: Sequence[str] = SHARED) -> list[ElementTree.Element]:
    """Write once what neighbours have in common."""
    if not keys:
        return nodes
    key, *others = keys
    found = []
    for value, alike in groupby(nodes, lambda node: node.get(key)):
        same = list(alike)
        if value and len(same) > 1:
            for node in same:
                del node.attrib[key]
            group = ElementTree.Element("g", {key: value})
            group.extend(_grouped(same, others))
            found.append(group)
        else:
            found += _grouped(same, others)
    return found


def _short(key: str, value: str) -> str:
    """Return an attribute with the page's colours, two digits less, and without what the page's style sheet says."""
    if key == "style":
        value = re.sub("|".join(DEFAULTS), "", value.replace("; ", ";").replace(": ", ":") + ";")
        return re.sub(r"#\w{6}", lambda found: f"var(--{PALETTE[found[0]]})", value).strip(";")
    if key == "transform" and value.startswith("rotate(-0 "):
        return ""
    if key in ("d", "x", "y", "width", "height", "transform"):
        value = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
        return re.sub(r"\s*([A-Zz])\s*", r"\1", " ".join(value.split()))
    return value


def hover(artist: Rectangle | Line2D, text: str) -> None:
    """Show a text under the pointer."""
    artist.set_gid(HOVER + "\u2028".join(map(printable, text.split("\n"))))  # attributes keep no line feeds


def label(name: str, width: int = 26, lines: int = 3) -> str:
    """Return a name in lines of so many characters, broken at spaces and underscores; the rest is left out."""
    with_hyphens = printable(name).translate({ord("-"): "\0", ord("_"): "-"})  # which `wrap` breaks after
    found = wrap(with_hyphens, width, max_lines=lines, placeholder="…")
    return "\n".join(found).translate({0: "-", ord("-"): "_"})


def printable(text: str) -> str:
    """Return a text without control characters, which SVG cannot hold."""
    return "".join(character if character.isprintable() else "?" for character in text)
