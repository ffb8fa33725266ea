"""What the site needs beyond Sphinx's own: names found under each of their paths, and no network."""

from __future__ import annotations

import ast
import json
import re
import textwrap
import zlib
from collections.abc import Iterator
from inspect import isclass, isfunction, ismodule
from itertools import takewhile
from pathlib import Path
from typing import Any

from docutils import nodes
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

import lqrad

CHAPTERS = [
    name
    for name, chapter in ((name, getattr(lqrad, name)) for name in dir(lqrad))
    if ismodule(chapter) and hasattr(chapter, "__all__") and name not in ("cli", "plotting")
]
# Types that docstrings name, and that are not ours.
FOREIGN = {
    "Generator": "numpy.random.Generator",
    "Axes": "matplotlib.axes.Axes",
    "Figure": "matplotlib.figure.Figure",
    "pandas.DataFrame": "pandas.DataFrame",
}
# Sections whose descriptions are indented.
LISTS = ("Parameters", "Other Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns")


def public() -> Iterator[tuple[str, str]]:
    """Each public name and the path under which the reference has it."""
    for name in lqrad.__all__:
        if not ismodule(getattr(lqrad, name)):
            yield name, f"lqrad.{name}"
    for chapter in CHAPTERS:
        for name in getattr(lqrad, chapter).__all__:
            if name not in lqrad.__all__:
                yield name, f"lqrad.{chapter}.{name}"


PATHS = dict(public())


def types() -> dict[str, str]:
    """Names in the place of types that are links."""
    ours = {name: path for name, path in PATHS.items() if isclass(getattr(lqrad, name))}
    return FOREIGN | ours


def distinct_files() -> dict[str, str]:
    """File names of paths that differ from another by case alone, as some disks do not tell them."""
    seen: set[str] = set()
    apart = {}
    for path in sorted(PATHS.values(), key=lambda path: (path.lower(), path.swapcase())):
        if path.lower() in seen:
            apart[path] = f"{path}-class"
        seen.add(path.lower())
    return apart


def inventories(source: Path, built: Path) -> dict[str, tuple[str, str]]:
    """Make Sphinx's inventories from lists of names: the address, then `name role page` a line."""
    built.mkdir(parents=True, exist_ok=True)
    found = {}
    for listed in sorted(source.glob("*.txt")):
        address, *lines = listed.read_text(encoding="utf-8").split("\n")
        entries = [line.split() for line in lines if line]
        body = "".join(f"{name} {role} 1 {page} -\n" for name, role, page in entries)
        head = f"# Sphinx inventory version 2\n# Project: {listed.stem}\n# Version:\n"
        head += "# The remainder of this file is compressed using zlib.\n"
        inventory = built / f"{listed.stem}.inv"
        inventory.write_bytes(head.encode() + zlib.compress(body.encode()))
        found[listed.stem] = (address, str(inventory))
    return found


def notebooks(source: Path, built: Path) -> None:
    """Bring the notebooks into the site as they are stored; they link to pages as ../docs/page.md."""
    for path in source.glob("*.ipynb"):
        text = path.read_text(encoding="utf-8").replace("](../docs/", "](../")
        here = built / path.name
        if not here.exists() or here.read_text(encoding="utf-8") != text:
            here.write_text(text, encoding="utf-8")
    for path in built.glob("*.ipynb"):
        if not (source / path.name).exists():
            path.unlink()


def _elsewhere(target: str) -> str:
    """The path in the reference of a name that was given by another of its paths."""
    parts = target.split(".")
    if parts[0] == "lqrad":
        parts = parts[2:] if len(parts) > 2 and parts[1] in CHAPTERS else parts[1:]
    if not parts or parts[0] not in PATHS:
        return ""
    return ".".join([PATHS[parts[0]], *parts[1:]])


def find(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve a name that has no page under this path and has one under another."""
    if node.get("refdomain") != "py":
        return None
    path = _elsewhere(node["reftarget"])
    if path and path != node["reftarget"]:
        found = env.domains.python_domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", path, node, contnode
        )
        if found is not None:
            return found
    # What a docstring merely writes as code, as arguments are, leads nowhere.
    return contnode if node["reftype"] == "obj" else None


def _groups() -> Iterator[list[str]]:
    """The paths that the reference lists together."""
    for page in sorted(Path(__file__).parents[1].glob("reference/*.md")):
        for block in re.findall(r"```{eval-rst}\n(.*?)```", page.read_text(), flags=re.DOTALL):
            yield [
                f"lqrad.{name}" for name in re.findall(r"^   ([\w.]+)$", block, flags=re.MULTILINE)
            ]


GROUPS = {path: group for group in _groups() for path in group}


def _makers() -> Iterator[tuple[str, str]]:
    """Each name in the place of a type that a public function returns, and that function."""
    for name in PATHS:
        thing = getattr(lqrad, name)
        returned = getattr(thing, "__annotations__", {}).get("return", "")
        if isfunction(thing):
            yield from ((kind, name) for kind in re.findall(r"\w+", str(returned)))


def see_also(path: str) -> list[str]:
    """What else to see, of what says nothing itself: what returns it, or what stands beside it."""
    if path.startswith("lqrad.plotting."):
        return ["See Also", "--------", "plot : finds the picture of a result."]
    makers = [maker for kind, maker in _makers() if kind == path.rpartition(".")[2]]
    if makers:
        return [
            "See Also",
            "--------",
            f"{', '.join(makers)} : return{'s' * (len(makers) == 1)} it.",
        ]
    beside = [one for one in GROUPS[path] if one != path][:5]
    short = {full: name for name, full in PATHS.items()}
    return ["See Also", "--------", ", ".join(short.get(one, one) for one in beside)]


def _language(lines: list[str], indent: int) -> str:
    """Tell a block of code at the start of the lines from equations, of which most are no Python."""
    within = takewhile(lambda line: not line.strip() or line.startswith(" " * indent), lines)
    try:
        ast.parse(textwrap.dedent("\n".join(within)))
    except SyntaxError:
        return "text"
    return "python"


def as_rst(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep a docstring's equations as they are: indented blocks, and the signs | and * of norms.

    Docstrings are written to be read as they stand, in a terminal; what is set apart by four spaces
    there is a literal block here.
    """
    if name in GROUPS and "See Also" not in lines and callable(thing) and len(GROUPS[name]) > 1:
        lines += ["", *see_also(name), ""]
    told: list[str] = []
    base, after_blank, literal, example = 0, True, False, False
    for i, line in enumerate(lines):
        text = line.lstrip()
        indent = len(line) - len(text)
        if i + 1 < len(lines) and set(lines[i + 1].strip()) == {"-"} and not indent:
            base = 4 if text in LISTS else 0
        if text:
            if literal and indent < base + 4:
                literal = False
            if after_blank and not literal and indent >= base + 4:
                literal = True
                told += [" " * base + f".. code-block:: {_language(lines[i:], indent)}", ""]
            example = text.startswith(">>>") or (example and not after_blank)
            if not literal and not example and indent >= base and not text.startswith("* "):
                line = re.sub(r"(`+[^`]+`+)|([|*])", lambda m: m[1] or "\\" + m[2], line)
        after_blank = not text
        told.append(line)
    lines[:] = told


def strip(app: Any, doctree: nodes.document) -> None:
    """Leave out the empty line that ends an example of doctest in Markdown."""
    for block in doctree.findall(nodes.literal_block):
        if len(block) == 1 and block.rawsource == block.astext():
            block.rawsource = block.rawsource.rstrip()
            block[:] = [nodes.Text(block.rawsource)]


def pictures(block: Any, block_vars: Any, gallery_conf: Any) -> str:
    """Show the figures that an example made, in windows or not."""
    found = list(block_vars["example_globals"].values())
    made = {id(one): one for one in map(_figure, found) if one is not None}
    shown = block_vars["example_globals"].setdefault("__shown__", set())
    paths = []
    for figure in [figure for key, figure in made.items() if key not in shown]:
        paths.append(next(block_vars["image_path_iterator"]))
        figure.savefig(paths[-1], dpi=120, facecolor="white")
    shown |= made.keys()
    if not paths:
        return ""
    title = Path(block_vars["src_file"]).read_text(encoding="utf-8").split("\n")[1]
    return str(figure_rst(paths, gallery_conf["src_dir"], title))


def _figure(thing: Any) -> Figure | None:
    if isinstance(thing, Axes):
        return thing.get_figure(root=True)
    return thing if isinstance(thing, Figure) else None


def summary(app: Any, exception: Exception | None) -> None:
    """Say how many pages and examples there are, and what the examples took."""
    if exception is not None or app.builder.name != "html":
        return
    conf = app.config.sphinx_gallery_conf
    ran, kept = len(conf["passing_examples"]), len(conf["stale_examples"])
    costs = (Path(app.srcdir) / "examples").rglob("*.cost.json")
    seconds = sum(json.loads(path.read_text())["time"] for path in costs)
    print(
        f"{len(app.env.found_docs)} pages; {ran} examples executed, {kept} as they were:", end=" "
    )
    print(f"{seconds:.1f} s for all of them when they ran")


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("missing-reference", find)
    app.connect("autodoc-process-docstring", as_rst, priority=100)
    app.connect("doctree-read", strip)
    app.connect("build-finished", summary, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
