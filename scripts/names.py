"""All public names: where each stands, how it is called, what it is.

python scripts/names.py        a table in Markdown
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import lqrad


def public() -> Iterator[tuple[str, str, Any]]:
    """Each public name once, but pictures: its home, the name, the thing."""
    chapters = {
        name: module
        for name, module in ((name, getattr(lqrad, name)) for name in dir(lqrad))
        if inspect.ismodule(module)
        and hasattr(module, "__all__")
        and name not in ("cli", "plotting", "explore")
    }
    listed = {name: f"lqrad.{home}" for home, module in chapters.items() for name in module.__all__}
    for name in sorted({*lqrad.__all__, *listed}, key=lambda name: (name.lower(), name)):
        thing = getattr(lqrad, name)
        if not inspect.ismodule(thing):
            yield listed.get(name, "lqrad"), name, thing


def signature(thing: Any) -> str:
    """How it is called, without annotations; empty for what is not."""
    try:
        called = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    bare = [p.replace(annotation=p.empty) for p in called.parameters.values()]
    return str(called.replace(parameters=bare, return_annotation=called.empty))


def methods(thing: Any) -> Iterator[tuple[str, Any]]:
    """The public methods of a class."""
    for key, value in inspect.getmembers(thing, inspect.isfunction):
        if not key.startswith("_"):
            yield key, value


def main() -> int:
    """Print the table."""
    print("| name | stands in | called as | |\n|---|---|---|---|")
    for home, name, thing in public():
        top = "top, " if name in lqrad.__all__ else ""
        doc = (inspect.getdoc(thing) or "").partition("\n")[0]
        called = signature(thing) if not issubclass(type(thing), type(Exception)) else ""
        print(f"| `{name}` | {top}`{home}` | `{called}` | {doc} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
