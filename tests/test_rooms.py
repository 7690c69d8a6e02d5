"""What may import what: the order of the rooms."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kd_lightning"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(path: Path, everywhere: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports when it is imported, or anywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else executed(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements that run at an import: neither functions nor the imports for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from executed(node)


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


def test_nothing_imports_a_command_and_nothing_below_tasks_or_in_them_knows_the_fast_path() -> None:
    for name, path in MODULES.items():
        if not name.startswith(("kd_lightning.commands", "kd_lightning.cli", "kd_lightning.__main__")):
            assert not any(other.startswith("kd_lightning.commands") for other in imported(path, True)), name
        if name.split(".")[1:2] in (["tasks"], ["teacher"], ["losses"], ["networks"], ["data"], ["inference"]):
            assert not any(other.startswith("kd_lightning.fast") for other in imported(path, True)), name


def test_no_file_is_longer_than_250_lines() -> None:
    assert not {path.name for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 250}
