"""The gallery's sources: a title, a few sentences, one short piece of code. The site's build runs them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
EXAMPLES = sorted(GALLERY.glob("*/plot_*.py"))
MOST = 24  # lines of code


def parts(source):
    """The title, its underline, the text below, and the lines of code of an example."""
    opening = ast.parse(source).body[0]
    title, line, blank, *text = ast.literal_eval(opening.value).strip().split("\n")
    assert not blank
    code = [code for code in source.split("\n")[opening.end_lineno :] if code.strip()]
    return title, line, " ".join(text), code


def test_there_are_enough_of_them():
    assert len(EXAMPLES) >= 30
    folders = {example.parent for example in EXAMPLES}
    assert all((folder / "GALLERY_HEADER.rst").is_file() for folder in [GALLERY, *folders])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_one_sees(example):
    title, line, text, code = parts(example.read_text(encoding="utf-8"))
    assert line == "=" * len(title)
    assert not title.endswith(".")
    assert 2 <= len(re.findall(r"[.?!](?= |$)", text)) <= 5
    assert len(code) <= MOST


def test_titles_differ():
    titles = [parts(example.read_text(encoding="utf-8"))[0] for example in EXAMPLES]
    assert len(set(titles)) == len(titles)
