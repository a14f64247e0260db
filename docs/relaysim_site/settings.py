"""The page of keys: every option of an experiment, from the fields that sweeps and commands read."""

from __future__ import annotations

from relaysim.studies.experiment import OPTIONS
from relaysim.studies.options import FIXED, Option
from relaysim_site import rst
from relaysim_site.files import Folder

__all__ = ["write"]

INTRODUCTION = """Keys of `relaysim.sweep` and of the files of ``relaysim sweep``, options of ``relaysim
run`` (with dashes: ``--learning-rate``), and most of them controls of `relaysim.explore`.
What has a name is that name, or a call as Python writes it, ``ChocoSGD(TopK(8), 0.5)``; in Python the
object itself serves as well. Text names only what ``relaysim list`` lists, and nothing in it is evaluated.
A call may leave out what the setting says: n, the topology, and the seed of the problem."""


def write(folder: Folder) -> None:
    """Write the page."""
    rows = [(f"``{name}``", rst.escaped(_what(each))) for name, each in OPTIONS.items()]
    table = rst.table(rows, "names", header=("Key", "What"))
    folder.write("index.rst", f"{rst.title('Settings')}\n\n{INTRODUCTION}\n\n{table}\n")


def _what(each: Option) -> str:
    default = "" if each.default is None else f"; {each.default} if nothing is said"
    text = f"{each.help}: {each.limits}{default}."
    if each.problem:
        text += f" For the problem {each.problem}."
    if each.only:
        text += (
            " For runs at a given rate." if each.only == FIXED else " For runs whose rate is tuned."
        )
    return text
