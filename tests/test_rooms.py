"""What may import what: the order of the rooms, as docs/architecture.md has it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kd_lightning"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
OPEN = {"errors", "machine", "wording"}
ALLOWED = {
    room: set(re.findall(r"`(\w+)`", imports))
    for room, imports in re.findall(r"^\| `(\w+)` \| .* \| ?(.*) ?\|$", PAGE.partition("\n## ")[0], re.MULTILINE)
}


def imported(path: Path, everywhere: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports when it is imported, or in its functions too."""
    for node in executed(parsed(path), everywhere):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def executed(tree: ast.AST, everywhere: bool) -> Iterator[ast.AST]:
    """Yield the statements that run at an import, or everywhere; never the imports for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if not everywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from executed(node, everywhere)


def needs(module: str) -> set[str]:
    """Return the modules of this project that an import of one runs, those of packages around them included."""
    found = {name for name in imported(MODULES[module]) if name in MODULES}
    return found | {package for name in found for package in around(name)} - {module}


def around(module: str) -> Iterator[str]:
    parts = module.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts)))


def reached(module: str) -> set[str]:
    """Return all libraries and modules that an import of one leads to."""
    seen, waiting = set(), [module, *around(module)]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in MODULES:
            waiting += [*imported(MODULES[name]), *around(name)]
    return {name.partition(".")[0] for name in seen}


def test_no_module_imports_itself_by_others() -> None:
    direct = {name: {other for other in imported(MODULES[name]) if other in MODULES} - {name} for name in MODULES}
    TopologicalSorter(direct).prepare()  # raises a CycleError that names them


@pytest.mark.parametrize("room", ["losses", "networks", "inference", "export"])
def test_what_works_on_tensors_and_files_does_without_lightning(room: str) -> None:
    for module in (name for name in MODULES if name.startswith(f"kd_lightning.{room}")):
        assert "lightning" not in reached(module), module


def test_inference_does_without_torch() -> None:
    for module in (name for name in MODULES if name.startswith("kd_lightning.inference")):
        assert not {"torch", "torchvision", "lightning"} & reached(module), module


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_the_page_lists_every_room() -> None:
    assert sorted(ALLOWED) == sorted({room_of(name) for name in MODULES if "." in name} - {"__main__"})


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_rooms_above_it_that_the_page_names(room: str) -> None:
    above = set(list(ALLOWED)[: list(ALLOWED).index(room)])
    assert ALLOWED[room] <= above
    for module in (name for name in MODULES if f"{name}.".startswith(f"kd_lightning.{room}.")):
        found = {
            room_of(name) for name in imported(MODULES[module], everywhere=True) if name in MODULES and "." in name
        }
        assert found - {room} <= ALLOWED[room] | OPEN & above, module


@pytest.mark.parametrize("line", [line for line in PAGE.partition("\n## ")[2].splitlines() if ".py`" in line])
def test_the_files_that_the_page_names_exist_and_hold_the_names_beside_them(line: str) -> None:
    paths = [PACKAGE / path for path in re.findall(r"`([\w/]+\.py)`", line) if not path.startswith("tests/")]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    names = re.findall(r"`(\w+)`", line) if line[0].isdigit() else []
    assert not [name for name in names if not re.search(rf"\b{name}\b", text)]
