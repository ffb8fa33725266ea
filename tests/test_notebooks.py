"""Every notebook holds the outputs of one complete run, and runs again without a warning."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EVERY_NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def test_there_are_notebooks():
    assert NOTEBOOKS


@EVERY_NOTEBOOK
def test_it_is_small_enough_to_keep(path):
    assert path.stat().st_size < 800 * 1024


@EVERY_NOTEBOOK
def test_it_holds_the_outputs_of_one_run_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    kinds = {output.output_type for output in outputs}
    assert kinds & {"execute_result", "display_data"}
    assert "error" not in kinds
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)


@EVERY_NOTEBOOK
def test_its_last_cell_asserts_what_the_text_claims(path):
    lines = code_cells(path)[-1].source.splitlines()
    assert sum(line.lstrip().startswith("assert ") for line in lines) >= 10


@EVERY_NOTEBOOK
def test_it_runs_from_top_to_bottom_without_a_warning(path, tmp_path, monkeypatch):
    """In a copy of its folder, as a user who has only that."""
    folder = tmp_path / "notebooks"
    shutil.copytree(path.parent, folder)
    search = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, search)))
    notebook = nbformat.read(folder / path.name, as_version=4)
    # The kernel's own start may warn of what is not ours, so that the filter is set after it.
    strict = nbformat.v4.new_code_cell("import warnings; warnings.simplefilter('error')")
    notebook.cells.insert(0, strict)
    client = nbclient.NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    assert sorted(folder.iterdir()) == sorted(folder / item.name for item in path.parent.iterdir())
