"""Every notebook runs from top to bottom; the first one in the quick tests too."""

import pathlib

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"

# As if the notebook had been opened anew: no names, and Matplotlib as it was.
START_AFRESH = """
get_ipython().run_line_magic("reset", "-f")
import matplotlib, matplotlib.pyplot
matplotlib.pyplot.close("all")
matplotlib.pyplot.style.use("default")
get_ipython().run_line_magic("matplotlib", "inline")
del matplotlib
"""


@pytest.fixture(scope="module")
def kernel():
    """A kernel for all of them: its imports take as long as a notebook."""
    manager = AsyncKernelManager(kernel_name="python3")
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


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
def test_notebook_runs(path, kernel):
    notebook = nbformat.read(path, as_version=4)
    committed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in committed), "outputs are committed, so that it reads well"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(START_AFRESH))
    client = NotebookClient(notebook, timeout=120, km=kernel)
    client.execute()
    client.kc.stop_channels()
