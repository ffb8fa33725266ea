"""The floors of the house: who may import whom.

    errors < arguments, copies < outside < series < kernels < problems < solvers < studies < design < files, nonlinear, plotting, saved, systems < cli

A module imports from lower floors, and from siblings in its own package as long as that makes no
circle. Imports for a type checker alone do not run and do not count.
"""

from __future__ import annotations

import ast
import graphlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import lqrad

FLOORS = [
    {"errors"},
    {"arguments", "copies"},
    {"outside"},
    {"series"},
    {"kernels"},
    {"problems"},
    {"solvers"},
    {"studies"},
    {"design"},
    {"files", "heat", "nonlinear", "plotting", "saved", "systems"},
    {"cli"},
    {"__main__"},
]
STUDIES = FLOORS.index({"studies"})
DESCENT = {"lqrad.descent.descend", "lqrad.descent.methods", "lqrad.descent.proximal"}
RICCATI = {"lqrad.lq.dare", "lqrad.lq.riccati"}
ADJOINT = {"simulate", "adjoint", "input_gradient", "value_and_gradient", "hessian_product"}

HOUSE = Path(lqrad.__file__).parent
SOURCES = {
    ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path.read_text(encoding="utf-8")
    for path in sorted(HOUSE.rglob("*.py"))
}
PACKAGES = {
    ".".join(path.parent.relative_to(HOUSE.parent).parts) for path in HOUSE.rglob("__init__.py")
}


@dataclass(frozen=True)
class Import:
    """One module that another imports, late if only when a function is called."""

    target: str
    late: bool


def imports_of(module: str, source: str) -> list[Import]:
    """Every import in `source` that runs, with names of the house resolved to their modules."""
    found = []

    def visit(node: ast.AST, late: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + (module in PACKAGES)]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append(Import(inner if inner in SOURCES else base, late))
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                visit(child, late)
        else:
            late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                visit(child, late)

    visit(ast.parse(source), False)
    return found


def floor_of(module: str) -> int:
    room = module.split(".")[1]
    for height, rooms in enumerate(FLOORS):
        if room in rooms:
            return height
    raise AssertionError(f"{module} is on no floor; give it one in {Path(__file__).name}")


def faults(module: str, source: str) -> list[str]:
    """What is wrong with the imports of `source`, in words."""
    found = []
    for item in imports_of(module, source):
        target = item.target
        drawing = module.startswith("lqrad.plotting")
        if target.split(".")[0] == "matplotlib" and not drawing:
            found.append("imports matplotlib; only lqrad.plotting may")
        if target.split(".")[0] != "lqrad":
            continue
        if target == "lqrad":
            if floor_of(module) < FLOORS.index({"cli"}):
                found.append("imports lqrad itself, which imports all of it")
        elif target.startswith("lqrad.plotting") and not drawing:
            if not (item.late and floor_of(module) >= STUDIES):
                found.append("imports lqrad.plotting; studies and above may, in a function")
        elif floor_of(target) > floor_of(module):
            found.append(f"imports {target} from a higher floor")
        elif floor_of(target) == floor_of(module) and (
            target.split(".")[:2] != module.split(".")[:2]
        ):
            found.append(f"imports its neighbour {target}")
        elif module in DESCENT and target not in DESCENT | {
            "lqrad.arguments",
            "lqrad.copies",
            "lqrad.errors",
            "lqrad.outside",
            "lqrad.linalg.lanczos",
            "lqrad.descent.objective",
        }:
            found.append(f"imports {target}, but the descent loop knows only objectives")
        elif module in RICCATI and target == "lqrad.linalg.banded":
            found.append("imports the kernel of the adjoint, which it must be able to prove wrong")
    if module in RICCATI:
        used = {
            node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)
        }
        found += [f"uses {name}, which it must be able to prove wrong" for name in used & ADJOINT]
    return found


@pytest.mark.parametrize("module", [name for name in SOURCES if name != "lqrad"])
def test_a_module_imports_only_from_lower_floors(module):
    assert faults(module, SOURCES[module]) == []


def test_the_solvers_that_prove_each_other_are_looked_at():
    assert SOURCES.keys() >= DESCENT | RICCATI


def test_no_modules_import_each_other_in_a_circle():
    graph = {
        module: {item.target for item in imports_of(module, source) if not item.late}
        for module, source in SOURCES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", ["lqrad", "lqrad.plotting"])
def test_the_package_holds_its_public_names_and_nothing_else(package):
    allowed = (ast.Import, ast.ImportFrom, ast.Assign)
    docstring, *rest = ast.parse(SOURCES[package]).body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(statement, allowed) for statement in rest)
    assigned = {
        ast.unparse(statement.targets[0]) for statement in rest if isinstance(statement, ast.Assign)
    }
    assert assigned <= {"__all__", "__version__"}


@pytest.mark.parametrize("package", sorted(PACKAGES - {"lqrad", "lqrad.plotting"}))
def test_an_inner_package_is_only_a_docstring(package):
    (docstring,) = ast.parse(SOURCES[package]).body
    assert isinstance(docstring, ast.Expr)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        (
            "lqrad.linalg.banded",
            "from lqrad.lq.problem import LQProblem",
            "imports lqrad.lq.problem from a higher floor",
        ),
        (
            "lqrad.linalg.banded",
            "def f():\n    from ..problems import objective",
            "imports lqrad.descent.objective from a higher floor",
        ),
        ("lqrad.lq.problem", "import lqrad", "imports lqrad itself"),
        ("lqrad.lq.problem", "from lqrad import riccati", "imports lqrad itself"),
        ("lqrad.lq.compare", "import matplotlib.pyplot as plt", "imports matplotlib"),
        ("lqrad.lq.compare", "from lqrad import plotting", "imports lqrad.plotting"),
        ("lqrad.cli", "from lqrad.figure import Picture", "imports lqrad.plotting"),
        (
            "lqrad.lq.problem",
            "def f():\n    from lqrad.plotting import plot_trajectory",
            "imports lqrad.plotting",
        ),
        ("lqrad.systems", "from lqrad.files import load_model", "imports its neighbour"),
        ("lqrad.descent.descend", "from lqrad.lq.problem import LQProblem", "only objectives"),
        ("lqrad.descent.descend", "from lqrad.solvers import riccati", "only objectives"),
        ("lqrad.lq.riccati", "import lqrad.linalg.banded", "the kernel of the adjoint"),
        ("lqrad.lq.riccati", "x = problem.simulate(x0, u)", "uses simulate"),
    ],
)
def test_a_planted_fault_is_found(module, source, fault):
    (found,) = faults(module, source)
    assert fault in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "lqrad.lq.compare",
            "def plot(self):\n    from lqrad.plotting import plot_comparison",
        ),
        ("lqrad.lq.compare", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        ("lqrad.lq.problem", "from .objective import Objective"),
        ("lqrad.lq.riccati", "from lqrad.lq.problem import LQProblem"),
        ("lqrad.figure", "import matplotlib"),
        ("lqrad.smoothing.pictures", "from lqrad.figure import colors"),
        ("lqrad.cli", "import lqrad"),
    ],
)
def test_what_is_allowed_is_not_called_a_fault(module, source):
    assert faults(module, source) == []
