"""Write the tables of README.md and docs/ that list what there is: ``python tests/write_docs.py``."""

import re
from pathlib import Path

from kd_lightning.listing.configs import shipped_configs
from kd_lightning.listing.kinds import KINDS, Entry, entries

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LISTED = re.compile(r"<!-- list (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def written(text: str) -> str:
    """Return a page with its tables written again."""
    return LISTED.sub(lambda place: f"<!-- list {place[1]} -->\n\n{table(place[1])}\n\n<!-- end -->", text)


def table(kind: str) -> str:
    """Return the table of a kind."""
    if kind == "configs":
        return rows(["config", "what it is"], [[f"`{config.name}`", config.what] for config in shipped_configs()])
    found = entries(KINDS[kind])
    if kind == "losses":
        head = ["loss", "short name", "what it is", "weight", "other options"]
        return rows(
            head,
            [
                [f"`{loss.source.name}`", f"`{loss.source.short}`", loss.source.title, weight(loss), own(loss)]
                for loss in found
            ],
        )
    head = [kind.removesuffix("s"), "what it is", "its own options"]
    return rows(head, [[f"`{entry.source.name}`", entry.source.title, own(entry)] for entry in found])


def rows(head: list[str], lines: list[list[str]]) -> str:
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body])


def weight(loss: Entry) -> str:
    (option,) = (option for option in loss.options if option.name == "weight")
    return option.default if option.default == "auto" else f"{option.default:g}"


def own(entry: Entry) -> str:
    return ", ".join(f"`{option.name}`" for option in entry.own_options)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
