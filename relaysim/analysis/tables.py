"""Histories side by side, and tables for a README or a paper."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
import pandas as pd

from relaysim.analysis.rates import check_one_rate, fit_rate
from relaysim.measures import READY
from relaysim.records.history import History
from relaysim.support.checks import one_of, real_number, shown

__all__ = ["compare", "latex", "markdown"]

LARGEST_PLAIN = 1e9  # whole numbers beyond are written with an exponent, unless they are integers
IN_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",  # at the start of a row it would be an argument of the \\ before, as would *
    "*": "{*}",
    "²": "$^2$",
    "³": "$^3$",
    "‖": r"$\|$",
    "−": "$-$",
    "×": r"$\times$",
    "–": "--",
    "γ": r"$\gamma$",
    "ζ": r"$\zeta$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "Ξ": r"$\Xi$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
}


def compare(
    histories: Mapping[str, History],
    *,
    target: float | None = None,
    rate_column: str | None = None,
) -> pd.DataFrame:
    """One row for each history, under its label (the index).

    Columns:

    - ``method``, ``learning_rate`` (at the last record), ``replicas``, ``steps`` (the last recorded);
    - with a target: ``steps_to_target``, the first recorded step with a suboptimality below it, and
      ``vectors_to_target``, sent by all workers until then. Medians over the replicas, of which one
      that never arrives counts as infinite; NaN where the median is;
    - every measure that was recorded (NaN where another history has it and this one does not):
      ``suboptimality``, ``value``, ``consensus_distance``, ``distance``, ``gradient_norm``, and others
      that were asked for, at the last record; medians over the replicas that did not diverge;
    - ``rate``: factor per step of ``rate_column``, by `relaysim.analysis.rates.fit_rate`; NaN where
      there is no linear regime;
    - ``diverged``: how many replicas did.

    Args:
        histories: by label, at least one.
        target: a suboptimality, positive; the optimum of each problem must be known.
        rate_column: the suboptimality by default, or the gradient norm where there is none.

    Raises:
        ValueError: no histories, a target where no optimum is known, or a history whose replicas
            have different learning rates.

    >>> import relaysim as rs
    >>> problem = rs.problems.DiagonalQuadratic(h=[[0.5], [0.5]], centers=[[1.0], [3.0]])
    >>> history = rs.simulate(problem, rs.topologies.chain(2), rs.algorithms.AllReduce(),
    ...                       learning_rate=0.2, steps=50)
    >>> compare({"all": history}, target=1e-3)[["steps_to_target", "vectors_to_target"]].values
    array([[33., 66.]])
    """
    if not isinstance(histories, Mapping):
        raise TypeError(
            f"histories must be a dict from labels to histories, not {shown(histories)}"
        )
    if not histories:
        raise ValueError("there are no histories to compare; give at least one")
    if target is not None and not real_number(target, "target") > 0:
        raise ValueError(f"target must be positive, not {target!r}")
    rows = []
    for label, history in histories.items():
        if not isinstance(history, History):
            raise TypeError(f"histories[{label!r}] must be a History, not {shown(history)}")
        rows.append(_row(label, history, target, rate_column))
    table = pd.DataFrame(rows, index=pd.Index(list(histories), name="label"))
    order = ["method", "learning_rate", "replicas", "steps", "steps_to_target", "vectors_to_target"]
    # Ready ones first, in their order.
    measured = dict.fromkeys((*READY, *(name for h in histories.values() for name in _measured(h))))
    order += [*measured, "rate", "diverged"]
    return table[[column for column in order if column in table]]


def _measured(history: History) -> list[str]:
    return [measure.name for measure in history.measures if not measure.per_worker]


def _row(label: str, history: History, target: float | None, rate_column: str | None) -> dict:
    frame = history.frame
    check_one_rate(frame, f"histories[{label!r}]: compare", "simulate each rate by itself")
    last = frame.groupby("replica").tail(1)
    row = {
        "method": history.label,
        "learning_rate": float(last["learning_rate"].iloc[0]),
        "replicas": history.replicas,
        "steps": int(history.steps[-1]),
    }
    if target is not None:
        reached = history.steps_to(target)
        # Replicas may send at times of their own.
        there = frame[frame["step"] == reached[frame["replica"].to_numpy()]]
        sent = there.set_index("replica")["vectors_sent"].reindex(range(history.replicas))
        row["steps_to_target"] = _median(np.where(np.isnan(reached), math.inf, reached))
        row["vectors_to_target"] = _median(sent.fillna(math.inf).to_numpy(dtype=float))
    settled = last[~history.diverged[last["replica"].to_numpy()]]
    row |= {name: settled[name].median() for name in _measured(history)}
    row["rate"] = fit_rate(history, rate_column).factor
    row["diverged"] = int(history.diverged.sum())
    return row


def _median(values: np.ndarray) -> float:
    """The median; NaN where it is infinite."""
    ordered = np.sort(values)
    low, high = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    return float((low + high) / 2) if np.isfinite(high) else math.nan


def markdown(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    bold: Mapping[str, str] | None = None,
) -> str:
    """A table as Markdown, its columns aligned: numbers to three digits, NaN as –.

    Whole numbers are written out, others as 0.25 or 1.2e-07; close to 1 there are as many digits as
    tell a number from 1. The index is a column unless it only numbers the rows.

    Args:
        frame: the table.
        columns: which of its columns, in this order: names, or ``{name: heading}``, headings that stand as
            they are; all by default.
        bold: ``{name: "min" | "max"}``: the best of these columns in bold, with those that read the same.

    Raises:
        TypeError: not a DataFrame, or columns of another kind.
        ValueError: a column that there is not, or that has no numbers to be best.

    >>> import pandas as pd
    >>> print(markdown(pd.DataFrame({"method": ["D²", "a|b"], "error": [1.2e-7, float("nan")]})))
    | method |   error |
    |:-------|--------:|
    | D²     | 1.2e-07 |
    | a\\|b   |       – |
    """
    names, cells, right = _cells(frame, columns, bold, _number, _markdown_text, "**{}**")
    widths = [max(3, len(name), *map(len, c)) for name, c in zip(names, cells, strict=True)]

    def line(cells: Iterable[str]) -> str:
        padded = (
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(cells, widths, right, strict=True)
        )
        return "| " + " | ".join(padded) + " |"

    rule = (
        "-" * (width + 1) + ":" if at_right else ":" + "-" * (width + 1)
        for width, at_right in zip(widths, right, strict=True)
    )
    rows = zip(*cells, strict=True)
    return "\n".join([line(names), "|" + "|".join(rule) + "|", *map(line, rows)])


def latex(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    bold: Mapping[str, str] | None = None,
) -> str:
    r"""A table as a LaTeX tabular with the rules of booktabs; numbers as in `markdown`, NaN as --.

    Text is escaped, and ², ζ and the like are set as mathematics.

    Args:
        frame: the table.
        columns: which of its columns, in this order: names, or ``{name: heading}``, headings that stand as
            they are; all by default.
        bold: ``{name: "min" | "max"}``: the best of these columns in bold, with those that read the same.

    Raises:
        TypeError: not a DataFrame, or columns of another kind.
        ValueError: a column that there is not, or that has no numbers to be best.

    >>> import pandas as pd
    >>> print(latex(pd.DataFrame({"method": ["D²"], "error": [1.2e-7]})))
    \begin{tabular}{lr}
    \toprule
    method & error \\
    \midrule
    D$^2$ & $1.2\times10^{-7}$ \\
    \bottomrule
    \end{tabular}
    >>> steps = pd.DataFrame({"steps": [36.0, 24.0]}, index=pd.Index(["D²", "EXTRA"], name="method"))
    >>> print(latex(steps, columns={"steps": "steps to $10^{-6}$"}, bold={"steps": "min"}).splitlines()[5])
    EXTRA & \textbf{24} \\
    """
    style = r"\textbf{{{}}}"
    names, cells, right = _cells(frame, columns, bold, _latex_number, _latex_text, style)
    lines = [
        rf"\begin{{tabular}}{{{''.join('r' if at_right else 'l' for at_right in right)}}}",
        r"\toprule",
        " & ".join(names) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in zip(*cells, strict=True)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _cells(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | Sequence[str] | None,
    bold: Mapping[str, str] | None,
    number: Callable[[Any], str],
    text: Callable[[str], str],
    strong: str,
) -> tuple[list[str], list[list[str]], list[bool]]:
    """Names, the cells of each column, and whether they stand at the right."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, not {shown(frame)}")
    if isinstance(frame.columns, pd.MultiIndex):
        frame = frame.set_axis([", ".join(map(str, name)) for name in frame.columns], axis=1)
    frame, headings = _chosen(frame, columns)
    best = _best(frame, bold)
    series = [frame.iloc[:, k] for k in range(frame.shape[1])]
    if not isinstance(frame.index, pd.RangeIndex):
        levels = range(frame.index.nlevels)
        series = [frame.index.get_level_values(k).to_series() for k in levels] + series

    def cell(value: object) -> str:
        if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_):
            return number(value)
        missing = value is None or value is pd.NA or value is pd.NaT
        return number(math.nan) if missing else text(str(value))

    def column(values: pd.Series) -> list[str]:
        cells = [cell(value) for value in values.tolist()]
        mark = cell(best[values.name]) if values.name in best else None
        return [strong.format(each) if each == mark else each for each in cells]

    names = [headings.get(s.name, "" if s.name is None else text(str(s.name))) for s in series]
    right = [
        pd.api.types.is_numeric_dtype(s.dtype) and not pd.api.types.is_bool_dtype(s.dtype)
        for s in series
    ]
    return names, [column(values) for values in series], right


def _chosen(
    frame: pd.DataFrame, columns: Mapping[str, str] | Sequence[str] | None
) -> tuple[pd.DataFrame, Mapping[Any, str]]:
    """The columns that were asked for, and the headings that were given for them."""
    if columns is None:
        return frame, {}
    if isinstance(columns, str) or not isinstance(columns, Mapping | Sequence):
        raise TypeError(
            f"columns must be a list of names or {{name: heading}}, not {shown(columns)}"
        )
    for name in columns:
        _require_column(frame, name, "columns")
    return frame[list(columns)], columns if isinstance(columns, Mapping) else {}


def _best(frame: pd.DataFrame, bold: Mapping[str, str] | None) -> dict[Any, Any]:
    """The best value of each column that has one in bold."""
    if bold is not None and not isinstance(bold, Mapping):
        raise TypeError(f"bold must be a mapping such as {{'steps': 'min'}}, not {shown(bold)}")
    found = {}
    for name, which in (bold or {}).items():
        _require_column(frame, name, "bold")
        one_of(which, f"bold[{name!r}]", ("min", "max"))
        if not pd.api.types.is_numeric_dtype(frame[name].dtype):
            raise ValueError(f"bold names {name!r}, which has no numbers; leave it out")
        found[name] = frame[name].min() if which == "min" else frame[name].max()
    return {name: value for name, value in found.items() if not pd.isna(value)}


def _require_column(frame: pd.DataFrame, name: object, what: str) -> None:
    if name not in frame:
        raise ValueError(
            f"{what} names {shown(name)}, which is no column; there are {', '.join(map(str, frame))}"
        )


def _number(value: SupportsFloat) -> str:
    if isinstance(value, numbers.Integral):
        return str(int(value))
    number = float(value)
    if math.isnan(number):
        return "–"
    if math.isinf(number):
        return "∞" if number > 0 else "-∞"
    if number.is_integer() and abs(number) < LARGEST_PLAIN:
        return str(int(number))
    for digits in range(3, 10):
        written = f"{number:.{digits}g}"
        if abs(float(written)) != 1:
            return written
    return written


def _latex_number(value: SupportsFloat) -> str:
    written = _number(value)
    if written == "–":
        return "--"
    if written.endswith("∞"):
        return "$" + written.replace("∞", r"\infty") + "$"
    mantissa, _, exponent = written.partition("e")
    if exponent:
        return rf"${mantissa}\times10^{{{int(exponent)}}}$"
    return f"${written}$" if written.startswith("-") else written


def _markdown_text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _latex_text(text: str) -> str:
    return "".join(IN_LATEX.get(sign, sign) for sign in " ".join(text.split()))
