"""What a figure returns, and how it is written to files."""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from relaysim.history import written_aside

__all__ = ["Result"]


class Result(NamedTuple):
    """A picture, the numbers in it, and what it shows."""

    figure: Figure
    frame: pd.DataFrame
    caption: str

    def save(self, folder: str | os.PathLike, name: str) -> list[pathlib.Path]:
        """Write ``name``.png, .pdf and .csv into a folder (made if needed); returns the paths.

        Each is written aside and renamed, so that none is ever half there.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.{kind}" for kind in ("png", "pdf", "csv")]
        for path in paths:
            with written_aside(path) as aside:
                if path.suffix == ".csv":
                    self.frame.to_csv(aside, index=False)
                else:
                    self.figure.savefig(aside, format=path.suffix[1:], bbox_inches="tight", dpi=200)
        return paths
