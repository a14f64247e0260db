"""Parts of an experiment as text, and the learning rate, which is a number or a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from relaysim.algorithms.claims import check_rates
from relaysim.algorithms.events import Algorithm
from relaysim.schedules import PerWorker
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import SCHEDULES, named, written
from relaysim.studies.options import SettingError

__all__ = ["check_rate", "described", "described_rate", "rate_of"]


def described(setting: Mapping[str, Any], key: str, known: Mapping[str, Callable]) -> str | None:
    """What a part is called in plain data: the text that makes an equal one."""
    part = setting[key]
    if part is None:
        return None
    if isinstance(part, str):
        part = named(part, known, key)
    elif type(part) not in known.values():
        raise SettingError(
            key, f"a sweep cannot rebuild the {key} {part!r}; there are {', '.join(known)}"
        )
    try:
        return written(part)
    except ValueError as error:
        raise SettingError(key, f"a sweep cannot write down the {key} {part!r}: {error}") from None


def described_rate(value: Any) -> Any:
    """A learning rate as a number, or as text: a schedule, or one for each worker."""
    has_name = type(value) in SCHEDULES.values()
    if value is None or isinstance(value, str) or has_name:
        return described({"learning_rate": value}, "learning_rate", SCHEDULES)
    if callable(value):
        raise SettingError(
            "learning_rate",
            f"a sweep cannot write down the learning rate {value!r}; take a number or one of "
            f"relaysim.schedules: {', '.join(SCHEDULES)}",
        )
    try:
        return OPTIONS["learning_rate"].checked(value)
    except SettingError as error:
        if "at least" in str(error):
            message = f"learning_rate must be finite and at least 0, not {value!r}"
            raise SettingError("learning_rate", message) from None
        raise


def rate_of(text: float | str | None) -> Any:
    """The learning rate that plain data describe: a number, a schedule, one a worker; None of None."""
    if isinstance(text, str):
        return named(text, SCHEDULES, "learning_rate")
    return text


def check_rate(text: float | str | None, algorithm: Algorithm, n: int) -> None:
    """Raise where rates of the workers' own do not go with the method, or their number, or are a grid."""
    rate = rate_of(text)
    if not isinstance(rate, PerWorker):
        return
    if isinstance(rate.scale, tuple):
        raise SettingError(
            "learning_rate",
            f"a setting has one scale of PerWorker, and here are {len(rate.scale)}; list one "
            f"PerWorker for each",
        )
    try:
        check_rates(rate.rates, algorithm, n)
    except ValueError as error:
        raise SettingError("learning_rate", str(error)) from None
