"""Every notebook runs from top to bottom; the first one in the quick tests too."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=path.stem, marks=() if "quickstart" in path.stem else pytest.mark.slow
        )
        for path in sorted(FOLDER.glob("*.ipynb"))
    ],
)
@pytest.mark.filterwarnings("default")
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    committed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in committed), "outputs are committed, so that it reads well"
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
