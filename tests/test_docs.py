"""The site's pages, without building it: all that is public is in the reference, all that is written is found."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from names import PUBLIC

import lqrad
import lqrad.plotting
from lqrad.results import Report

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if path.name != "changelog.md"]
EXAMPLES = sorted(DOCS.glob("gallery/*/plot_*.py"))
EVERY_PAGE = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
EVERY_EXAMPLE = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def listed():
    """What the reference lists, by its path."""
    for page in sorted(DOCS.glob("reference/*.md")):
        for block in re.findall(r"```{eval-rst}\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for name in re.findall(r"^   ([\w.]+)$", block, flags=re.MULTILINE):
                yield f"lqrad.{name}"


def found(path):
    """The thing that stands under a path, as Sphinx finds it: a module, then an attribute of it."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


LISTED = {path: found(path) for path in listed()}


def code(path):
    """An example's lines of code, without its docstring, empty lines and comments."""
    lines = path.read_text().split('"""', 2)[2].splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def reports(kind=Report):
    """Every kind of result in the package."""
    for one in kind.__subclasses__():
        if one.__module__.startswith("lqrad.") and not one.__name__.startswith("_"):
            yield one
        yield from reports(one)


def test_the_reference_lists_every_public_name_once():
    paths = list(listed())
    assert len(set(paths)) == len(paths)
    things = [id(thing) for thing in LISTED.values()]
    assert [name for name, thing in PUBLIC.items() if id(thing) not in things] == []
    pictures = [getattr(lqrad.plotting, name) for name in lqrad.plotting.__all__]
    assert [one.__name__ for one in pictures if id(one) not in things] == []
    systems = inspect.getmembers(lqrad.systems, inspect.isfunction)
    ours = [one for name, one in systems if one.__module__ == "lqrad.systems" and name[0] != "_"]
    assert ours
    assert [one.__name__ for one in ours if id(one) not in things] == []


def test_a_name_at_the_top_is_listed_there_and_not_in_its_chapter():
    for name in lqrad.__all__:
        if not inspect.ismodule(getattr(lqrad, name)):
            assert f"lqrad.{name}" in LISTED


def test_the_reference_lists_every_kind_of_result():
    things = list(LISTED.values())
    assert [kind.__name__ for kind in reports() if kind not in things] == []


def neighbours(thing):
    """The names under See Also."""
    doc = inspect.getdoc(thing) or ""
    section = re.search(r"^See Also\n-+\n(.*?)(\n\n\S|\Z)", doc, flags=re.DOTALL | re.MULTILINE)
    for names in re.findall(r"^(\S.*?)(?: :|$)", section[1], flags=re.MULTILINE) if section else ():
        yield from names.split(", ")


def is_found(name):
    """Whether a name under See Also is one of the reference's, or a method of one."""
    thing = lqrad if name.startswith("lqrad.") else PUBLIC.get(name.partition(".")[0])
    for part in name.split(".")[1:]:
        thing = getattr(thing, part, None)
    return thing is not None


def is_work(path, thing):
    """Whether it is a function that is no picture and no example of a system.

    Of others, and of results, the site itself says what returns them and what stands beside them.
    """
    others = ("lqrad.systems", "lqrad.nonlinear.systems")
    return inspect.isfunction(thing) and thing.__module__ not in others and "plotting" not in path


@pytest.mark.parametrize("path", LISTED)
def test_see_also_is_there_and_leads_somewhere(path):
    thing = LISTED[path]
    told = list(neighbours(thing))
    assert told or not is_work(path, thing)
    assert [name for name in told if not is_found(name)] == []


@EVERY_PAGE
def test_a_page_has_one_title_and_it_comes_first(path):
    text = re.sub(r"\A---\n.*?\n---\n", "", path.read_text(), flags=re.DOTALL)
    outside = re.sub(r"^(`{3,}|:{3,}).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", outside, flags=re.MULTILINE)) == 1
    assert text.lstrip().startswith(("# ", "("))


@pytest.mark.parametrize("folder", ["start", "howto", "theory"])
def test_every_page_of_a_folder_is_in_its_index(folder):
    index = (DOCS / folder / "index.md").read_text()
    patterns = re.findall(r"^(?:.*<)?([\w*-]+)>?$", index, flags=re.MULTILINE)
    listed = {path.stem for one in patterns for path in (DOCS / folder).glob(f"{one}.md")}
    assert {path.stem for path in (DOCS / folder).glob("*.md")} - listed <= {"index"}


def test_every_folder_of_the_gallery_has_a_header():
    folders = {path.parent for path in EXAMPLES}
    assert len(EXAMPLES) >= 30
    assert [folder for folder in folders if not (folder / "GALLERY_HEADER.rst").exists()] == []


@EVERY_EXAMPLE
def test_an_example_of_the_gallery_is_short_and_has_a_title(path):
    assert len(code(path)) <= 25
    title, line = path.read_text().splitlines()[1:3]
    assert set(line) == {"="}
    assert len(line) >= len(title)


def test_links_that_lead_nowhere_and_what_needs_a_network_are_found(tmp_path):
    (tmp_path / "other.html").write_text('<h1 id="here">a</h1>')
    good = '<a href="other.html#here">a</a> <a href="https://example.org/">b</a>'
    (tmp_path / "index.html").write_text(good)
    command = [sys.executable, str(DOCS.parent / "scripts" / "links.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 links within the site, 1 pages elsewhere (not asked): 0 broken\n"

    bad = '<a href="other.html#there">c</a> <a href="gone.html">d</a> <script src="//x.org/a.js"></script>'
    (tmp_path / "index.html").write_text(good + bad)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:3] == [
        "index.html loads //x.org/a.js",
        "index.html: other.html#there has no such place",
        "index.html: gone.html is not there",
    ]
