"""What describes one option of an experiment: what it is by default, its limits, and what it does.

An experiment is a dataclass; each of its fields is made by `option`. Keys of sweeps, options of
``relaysim run``, controls of the explorer and the page of keys are made from these.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaysim.support.checks import plain_scalar
from relaysim.support.names import closest

__all__ = ["FIXED", "TUNED", "Option", "SettingError", "check_said_once", "option", "options_of"]

#: Of runs at a given learning rate, and of runs whose rate is tuned.
FIXED, TUNED = "fixed", "tuned"
# What data frames hold as whole numbers.
LARGEST = 2**63


class SettingError(ValueError):
    """A value that a setting cannot have; ``key`` names the setting."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Option:
    """One option of an experiment.

    Attributes:
        name, default, help: what it is called, what it is if nothing is said, and what it does, in a line.
        kind: ``int`` or ``float`` for numbers, ``str`` for a word; None for what has a name: a part.
        parts, example: constructors by name, of a part, and one as it is written.
        least, above, most: limits of a number: at least, more than, at most.
        words: what a number is called within its limits.
        any_size: of a whole number: whether it may be 2^63 or more, as seeds are.
        choices: words that it may be.
        optional: whether None is a value; "none" in texts.
        only: ``FIXED`` or ``TUNED``, if it is of use to one of the two kinds of runs only.
        problem: the problem that it belongs to, if it is of use to that one only.
        argument, through: the argument of `relaysim.simulate` that it is, made by ``through`` of the value
            (none of it where the value is 0 or None).
        title, levels: the words beside its control in the explorer, and the values that this offers: a
            list, or the two ends of a range of whole numbers; of a part, all that has a name. Without a
            title it has no control.
    """

    name: str
    default: Any
    help: str
    kind: type | None = None
    parts: Mapping[str, Callable] = dataclasses.field(default_factory=dict, repr=False)
    example: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    words: str = ""
    any_size: bool = False
    choices: Sequence[str] = ()
    optional: bool = False
    only: str = ""
    problem: str = ""
    argument: str = ""
    through: Callable[[Any], Any] | None = None
    title: str = ""
    levels: Sequence[float] = ()

    def given_as(self, value: Any) -> dict[str, Any]:
        """The argument of `relaysim.simulate` that it is with this value; nothing where it is none.

        >>> Option("warmth", 0.0, "degrees", float, argument="faults", through=str).given_as(2.0)
        {'faults': '2.0'}
        """
        if not self.argument or value is None or (self.through and not value):
            return {}
        return {self.argument: self.through(value) if self.through else value}

    @property
    def limits(self) -> str:
        """Its values, in words.

        >>> Option("d", 10, "parameters", int, least=1).limits
        'a whole number of at least 1'
        """
        if self.choices:
            return ", ".join(self.choices)
        if self.words:
            return self.words
        example = f"such as {self.example}" if self.example else "a name or a call"
        if self.kind is None:
            return example
        number = self._limits_of_number() + (", or none" if self.optional else "")
        return f"{number}, or a call {example}" if self.parts else number

    def _limits_of_number(self) -> str:
        text = "a whole number" if self.kind is int else "a number"
        if self.least is not None and self.most is not None:
            return f"{text} from {self.least:g} to {self.most:g}"
        if self.least is not None:
            return f"{text} of at least {self.least:g}"
        return f"{text} above {self.above:g}" if self.above is not None else text

    def checked(self, value: Any) -> Any:
        """A number as int or float if that loses nothing, and within the limits; the rest as it is.

        Raises:
            SettingError: what it cannot be.

        >>> Option("d", 10, "parameters", int, least=1).checked(3.0)
        3
        """
        value = plain_scalar(value)
        if self.optional and isinstance(value, str) and value == "none":
            return None
        if value is None and (self.optional or self.default is None):
            return None
        if self.choices and value not in self.choices:
            hint = closest(value, self.choices) if isinstance(value, str) else ""
            hint = hint if "did you mean" in hint else ""
            listed = ", ".join(self.choices)
            raise SettingError(
                self.name, f"{self.name} must be one of {listed}, not {value!r}{hint}"
            )
        if self.kind not in (int, float):
            return value
        number = self._number(value)
        least, above, most = self.least, self.above, self.most
        if least is not None and most is not None and not least <= number <= most:
            raise SettingError(self.name, f"{self.name} must be {self.limits}, not {value!r}")
        if least is not None and number < least:
            raise SettingError(self.name, f"{self.name} must be at least {least:g}, not {value!r}")
        if above is not None and not number > above:
            what = "positive" if above == 0 else f"above {above:g}"
            raise SettingError(self.name, f"{self.name} must be {what}, not {value!r}")
        return number

    def _number(self, value: Any) -> int | float:
        what = "a whole number" if self.kind is int else "a finite number"
        valid = isinstance(value, int | np.integer | float | np.floating)
        valid = valid and not isinstance(value, bool)
        try:
            number: int | float = int(value) if self.kind is int else float(value)
            valid = valid and number == value and (self.kind is int or math.isfinite(number))
        except (TypeError, ValueError, OverflowError):
            valid = False
        if not valid:
            raise SettingError(self.name, f"{self.name} must be {what}, not {value!r}")
        if self.kind is int and not self.any_size and abs(number) >= LARGEST:
            raise SettingError(self.name, f"{self.name} must be below 2^63, not {value!r}")
        return number + (0 if self.kind is int else 0.0)  # −0.0 is 0.0


def option(default: Any, help: str, kind: type | None = None, **more: Any) -> Any:
    """A field of an experiment; see `Option` for what there is to say.

    >>> import dataclasses
    >>> @dataclasses.dataclass
    ... class Colours:
    ...     hue: float = option(0.5, "where on the wheel", float, least=0, most=1)
    >>> options_of(Colours)["hue"].limits
    'a number from 0 to 1'
    """
    return dataclasses.field(default=default, metadata={"help": help, "kind": kind, **more})


def options_of(experiment: type) -> dict[str, Option]:
    """The options of an experiment's class by name, in their order."""
    return {
        field.name: Option(field.name, field.default, **field.metadata)
        for field in dataclasses.fields(experiment)
    }


def check_said_once(options: Mapping[str, Option], values: Mapping[str, Any]) -> None:
    """Raise where one argument is said twice: in its own words, and by an option that stands for it.

    Raises:
        SettingError: naming both.
    """
    for key, each in options.items():
        if each.through and values[key] and values[each.argument] is not None:
            raise SettingError(
                key,
                f"{key} = {values[key]!r} is one {each.argument} and {values[each.argument]} another; "
                f"leave one out",
            )
