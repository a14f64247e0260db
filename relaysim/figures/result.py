"""What a figure returns, and how it is written to files."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from relaysim.support.display import html_table
from relaysim.support.files import written_aside

__all__ = ["Result", "rows_of"]


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a table, with its columns as attributes; what they hold no type of a table tells."""
    return iter(frame.itertuples())


class Result(NamedTuple):
    """A picture, the numbers in it, and what it shows."""

    figure: Figure
    frame: pd.DataFrame
    caption: str

    def _repr_html_(self) -> str:
        rows = [
            ("caption", self.caption),
            ("rows of its table", len(self.frame)),
            ("columns", ", ".join(map(str, self.frame.columns))),
        ]
        return html_table("Figure, with the numbers in it", rows)

    def save(
        self,
        folder: str | os.PathLike,
        name: str,
        kinds: Sequence[str] = ("png", "pdf", "csv"),
    ) -> list[pathlib.Path]:
        """Write ``name``.png, .pdf and .csv, or some, into a folder (made if needed); returns the paths.

        All are written aside and then renamed, so that none is ever half there or of another run.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.{kind}" for kind in kinds]
        with contextlib.ExitStack() as renamed_at_the_end:
            for path in paths:
                aside = renamed_at_the_end.enter_context(written_aside(path))
                if path.suffix == ".csv":
                    self.frame.to_csv(aside, index=False)
                else:
                    self.figure.savefig(aside, format=path.suffix[1:], bbox_inches="tight", dpi=200)
        return paths
