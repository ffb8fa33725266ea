"""The house: its rooms in their order, their sizes, and what breaks the order.

    python scripts/house.py

A room is a folder of lqrad, one chapter, or a module beside the folders. A module imports from rooms
before its own, and from its own without circles. Imports that run only when a function is called
count, as do those for a type checker alone; what a room's namespace gathers in its __init__ does not.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent / "lqrad"

# Rooms on one line do not know each other.
ORDER = [
    ["errors"],
    ["arguments", "copies"],
    ["batches", "native", "outside", "results"],
    ["sweeps", "figure"],
    ["functions", "linalg"],
    ["descent"],
    ["lq"],
    ["growth", "smoothing", "nets", "pde"],
    ["nonlinear", "design"],
    ["policies"],
    ["systems"],
    ["files"],
    ["datasets", "plotting"],
    ["explore"],
    ["cli"],
    ["__main__"],
]
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
LONGEST = 500  # lines of a module, but with a reason
LARGEST = 16  # per cent of the package in one room


@dataclass(frozen=True)
class Import:
    """A module that another imports: late where a function does, idle where only a type checker."""

    target: str
    late: bool = False
    idle: bool = False


def sources(house: Path = HOUSE) -> dict[str, str]:
    """The text of each module under its dotted name."""
    found = {}
    for path in sorted(house.rglob("*.py")):
        parts = path.relative_to(house.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def room_of(module: str) -> str:
    """The room of a module; that of the package itself is empty."""
    return module.partition(".")[2].partition(".")[0]


def imports_of(module: str, source: str, modules: Iterable[str]) -> list[Import]:
    """Every import of a module, with names of the house resolved to their modules."""
    modules = set(modules)
    package = any(name.startswith(f"{module}.") for name in modules)
    found: list[Import] = []

    def visit(node: ast.AST, late: bool, idle: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, late, idle) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + package]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append(Import(inner if inner in modules else base, late, idle))
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checking = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for child in ast.iter_child_nodes(node):
                visit(child, late or function, idle or checking)

    visit(ast.parse(source), False, False)
    return found


def against_the_order(module: str, source: str, modules: Iterable[str]) -> list[str]:
    """What is wrong with the imports of a module, in words."""
    faults, room = [], room_of(module)
    for item in imports_of(module, source, modules):
        if item.target.split(".")[0] != "lqrad" or not room:
            continue
        target = room_of(item.target)
        if not target:
            if room != "cli":
                faults.append("imports lqrad itself, which imports all of it")
        elif target == room:
            continue
        elif FLOOR[target] > FLOOR[room]:
            faults.append(f"imports {item.target} from a later room")
        elif FLOOR[target] == FLOOR[room]:
            faults.append(f"imports {item.target} from a neighbour")
    return faults


def circle(texts: dict[str, str]) -> list[str]:
    """The modules of a circle of imports, those for a type checker included; empty without one."""
    rooms = {name for name in texts if any(other.startswith(f"{name}.") for other in texts)}
    graph = {
        name: {item.target for item in imports_of(name, text, texts)} & texts.keys()
        for name, text in texts.items()
        if name not in rooms
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def reached_from(module: str, texts: dict[str, str], *, doors: Iterable[str] = ()) -> set[str]:
    """All modules that one imports, and those that these import, but not through the doors."""
    found: set[str] = set()
    front = [module]
    while front:
        name = front.pop()
        if name in found or name not in texts:
            continue
        found.add(name)
        if name == module or name not in doors:
            front += [item.target for item in imports_of(name, texts[name], texts) if not item.idle]
    return found - {module}


def size(source: str) -> tuple[int, int]:
    """Lines in all, and lines of docstrings."""
    documented = 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and ast.get_docstring(node) is not None:
                documented += (first.end_lineno or 0) - first.lineno + 1
    return source.count("\n"), documented


def main() -> int:
    """Print the order, the sizes and the faults; return how many there are."""
    texts = sources()
    sizes = {name: size(text) for name, text in texts.items()}
    total = sum(lines for lines, _ in sizes.values())
    print(f"{'room':<12}{'modules':>8}{'lines':>8}{'docstrings':>12}{'of all':>8}")
    faults = []
    for floor in ORDER:
        for room in floor:
            names = [name for name in texts if room_of(name) == room]
            lines, words = (sum(sizes[name][k] for name in names) for k in (0, 1))
            share = 100 * lines / total
            print(f"{room:<12}{len(names):>8}{lines:>8}{words:>12}{share:>7.1f}%")
            if share > LARGEST:
                faults.append(
                    f"{room} is {share:.1f} % of the house, at most {LARGEST} % is wanted"
                )
    words = sum(documented for _, documented in sizes.values())
    print(f"{'all':<12}{len(texts):>8}{total:>8}{words:>12}")
    for name, text in texts.items():
        faults += [f"{name} {fault}" for fault in against_the_order(name, text, texts)]
    around = circle(texts)
    if around:
        faults.append(f"a circle: {' -> '.join(around)}")
    long = {name: lines for name, (lines, _) in sizes.items() if lines > LONGEST}
    print(*(f"{name} has {lines} lines" for name, lines in long.items()), *faults, sep="\n")
    return len(faults)


if __name__ == "__main__":
    sys.exit(bool(main()))
