"""The house: its rooms are in an order, and each imports only from those before it.

The order stands in scripts/house.py, which prints it with the sizes of the rooms.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import lqrad

SCRIPT = Path(__file__).parent.parent / "scripts" / "house.py"
specification = importlib.util.spec_from_file_location("house", SCRIPT)
house = importlib.util.module_from_spec(specification)
sys.modules["house"] = house  # where dataclasses look for their module
specification.loader.exec_module(house)

SOURCES = house.sources(Path(lqrad.__file__).parent)
CHAPTERS = {name for name in SOURCES if any(other.startswith(f"{name}.") for other in SOURCES)}
RICCATI = {"lqrad.lq.batch_riccati", "lqrad.lq.dare", "lqrad.lq.riccati"}
# The adjoint, which Riccati must be able to prove wrong: what it solves with, and what calls it.
ADJOINT = {"simulate", "adjoint", "input_gradient", "value_and_gradient", "hessian_product"}
SOLVES_ADJOINT = {"lqrad.linalg.banded", "lqrad.linalg.feedback"}
# The problem states both; Riccati reads its matrices.
DOORS = {"lqrad.lq.batch", "lqrad.lq.problem"}


def faults(module, source):
    """What is wrong with the imports of a module, in words."""
    found = house.against_the_order(module, source, SOURCES)
    for item in house.imports_of(module, source, SOURCES):
        draws = {"pictures", "figure", "plotting", "explore"} & set(module.split("."))
        if item.target.split(".")[0] == "matplotlib" and not item.idle and not draws:
            found.append("imports matplotlib; only pictures may")
        if "pictures" in item.target.split(".") and not draws:
            found.append(f"imports {item.target}; what is drawn does not know how")
    if module in RICCATI:
        texts = SOURCES | {module: source}
        for target in sorted(house.reached_from(module, texts, doors=DOORS) & SOLVES_ADJOINT):
            found.append(f"reaches {target}, which it must be able to prove wrong")
        used = {
            node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)
        }
        found += [f"uses {name}, which it must be able to prove wrong" for name in used & ADJOINT]
    return found


@pytest.mark.parametrize("module", [name for name in SOURCES if name not in CHAPTERS])
def test_a_module_imports_only_from_rooms_before_its_own(module):
    assert faults(module, SOURCES[module]) == []


def test_what_the_rules_name_exists():
    assert SOURCES.keys() >= RICCATI | SOLVES_ADJOINT | DOORS


def test_no_modules_import_each_other_in_a_circle():
    assert house.circle(SOURCES) == []


def test_a_planted_circle_is_found():
    planted = SOURCES | {
        "lqrad.lq.inputs": "def f():\n    from lqrad.lq.problem import LQProblem",
    }
    assert {"lqrad.lq.inputs", "lqrad.lq.problem"} <= set(house.circle(planted))


@pytest.mark.parametrize("package", sorted(CHAPTERS - {"lqrad"}))
def test_a_chapter_names_what_it_holds_and_nothing_else(package):
    docstring, *rest = ast.parse(SOURCES[package]).body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(statement, (ast.ImportFrom, ast.Assign)) for statement in rest)
    own = [item.target for item in house.imports_of(package, SOURCES[package], SOURCES)]
    assert all(target.startswith(f"{package}") for target in own)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        (
            "lqrad.linalg.banded",
            "from lqrad.lq.problem import LQProblem",
            "imports lqrad.lq.problem from a later room",
        ),
        (
            "lqrad.linalg.banded",
            "def f():\n    from ..descent import objective",
            "imports lqrad.descent.objective from a later room",
        ),
        (
            "lqrad.lq.problem",
            "if TYPE_CHECKING:\n    from lqrad.systems import System",
            "imports lqrad.systems from a later room",
        ),
        ("lqrad.lq.problem", "import lqrad", "imports lqrad itself"),
        ("lqrad.lq.problem", "from lqrad import riccati", "imports lqrad itself"),
        ("lqrad.lq.compare", "import matplotlib.pyplot as plt", "imports matplotlib"),
        (
            "lqrad.lq.compare",
            "def f():\n    from lqrad.lq.pictures import plot_comparison",
            "what is drawn does not know how",
        ),
        ("lqrad.cli", "import matplotlib", "imports matplotlib"),
        ("lqrad.smoothing.kalman", "from lqrad.nets import sgd", "from a neighbour"),
        ("lqrad.descent.descend", "from lqrad.lq.problem import LQProblem", "from a later room"),
        ("lqrad.lq.riccati", "import lqrad.linalg.banded", "reaches lqrad.linalg.banded"),
        (
            "lqrad.lq.riccati",
            "from lqrad.lq.riccati_gradient import riccati_vjp",
            "reaches lqrad.linalg.banded",
        ),
        ("lqrad.lq.dare", "x = problem.simulate(x0, u)", "uses simulate"),
    ],
)
def test_a_planted_fault_is_found(module, source, fault):
    assert any(fault in told for told in faults(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lqrad.lq.compare", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        ("lqrad.lq.problem", "from .optimality import KKT"),
        ("lqrad.lq.riccati", "from lqrad.lq.problem import LQProblem"),
        ("lqrad.lq.pictures", "import matplotlib"),
        ("lqrad.smoothing.pictures", "from lqrad.figure import colors"),
        ("lqrad.cli", "import lqrad"),
    ],
)
def test_what_is_allowed_is_not_called_a_fault(module, source):
    assert faults(module, source) == []


def test_the_script_prints_the_rooms_and_finds_no_fault():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "smoothing" in done.stdout
