"""Progress bars: shown when work is long and someone is watching."""

from __future__ import annotations

import sys
import warnings
from types import TracebackType
from typing import Protocol, Self

from relaysim.support.checks import true_or_false

__all__ = ["ProgressBar", "progress_bar", "someone_watches"]

DELAY_SECONDS = 2.0


def someone_watches() -> bool:
    """Whether output goes to a terminal or a notebook."""
    if "ipykernel" in sys.modules:
        return True
    return sys.stderr is not None and sys.stderr.isatty()


class ProgressBar(Protocol):
    """What `progress_bar` returns, as far as it is used here; ``n`` units are done."""

    n: float

    def update(self, n: float = 1) -> object: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> object: ...


def progress_bar(total: int | None, show: bool | None, description: str, unit: str) -> ProgressBar:
    """A tqdm bar with the time left.

    Args:
        total: how many units there are.
        show: True, False, or None: only if it lasts over two seconds and someone watches.
        description: what is going on.
        unit: what is counted.
    """
    if show is not None:
        show = true_or_false(show, "progress")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets tqdm falls back to text, and says so
        from tqdm.auto import tqdm
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        disable=not (someone_watches() if show is None else show),
        delay=0 if show else DELAY_SECONDS,
        leave=bool(show),
    )
