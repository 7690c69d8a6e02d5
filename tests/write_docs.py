"""Write what README.md and docs/ say of each class, from its docstring: ``python tests/write_docs.py``."""

import re
from pathlib import Path
from textwrap import fill

from kd_lightning.listing.classes import REQUIRED, Option, one_line
from kd_lightning.listing.configs import shipped_configs
from kd_lightning.listing.kinds import KINDS, Entry, entries
from kd_lightning.listing.snippet import plain

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LISTED = re.compile(r"<!-- list (\w+) -->\n.*?<!-- end -->", re.DOTALL)
EACH = re.compile(r"<!-- each (\w+) -->\n.*?<!-- end -->", re.DOTALL)
ADDRESS = re.compile(r"https://\S+[^\s.,;:)]")
WIDTH = 120


def written(text: str) -> str:
    """Return a page with its tables and descriptions written again."""
    text = LISTED.sub(lambda place: f"<!-- list {place[1]} -->\n\n{table(place[1])}\n\n<!-- end -->", text)
    return EACH.sub(lambda place: f"<!-- each {place[1]} -->\n\n{in_full(place[1])}\n\n<!-- end -->", text)


def table(kind: str) -> str:
    """Return the table of a kind."""
    if kind == "configs":
        return rows(["config", "what it is"], [[f"`{config.name}`", config.what] for config in shipped_configs()])
    found = entries(KINDS[kind])
    if kind == "losses":
        head = ["loss", "short name", "what it is", "weight"]
        lines = [[linked(loss), f"`{loss.source.short}`", loss.source.title, weight(loss)] for loss in found]
        return rows(head, lines)
    head = [kind.removesuffix("s"), "what it is", "its own options"]
    return rows(head, [[f"`{entry.source.name}`", entry.source.title, own(entry)] for entry in found])


def in_full(kind: str) -> str:
    """Return a section for each class of a kind: its docstring, and a table of its options."""
    return "\n\n".join(part for entry in entries(KINDS[kind]) for part in section(entry))


def section(entry: Entry) -> list[str]:
    description = re.split(r"\n\s*\n", entry.source.docstring.long_description or "")
    paragraphs = [f"**{entry.source.title}**", *map(one_line, description)]
    options = [[f"`{option.name}`", default(option), option.help] for option in entry.options]
    return [f"### {entry.source.name}", *map(wrapped, paragraphs), rows(["option", "default", "what it is"], options)]


def wrapped(text: str) -> str:
    """Return a paragraph in lines, in which no formula is cut and each address is a link."""
    uncut = re.sub(r"`[^`]*`", lambda formula: formula[0].replace(" ", "\0"), ADDRESS.sub(r"<\g<0>>", text))
    return fill(uncut, WIDTH, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def rows(head: list[str], lines: list[list[str]]) -> str:
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body])


def linked(loss: Entry) -> str:
    return f"[`{loss.source.name}`](#{loss.source.name.lower()})"


def default(option: Option) -> str:
    return "must be given" if option.default is REQUIRED else plain(option.default)


def weight(loss: Entry) -> str:
    (option,) = (option for option in loss.options if option.name == "weight")
    return option.default if option.default == "auto" else f"{option.default:g}"


def own(entry: Entry) -> str:
    return ", ".join(f"`{option.name}`" for option in entry.own_options)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
