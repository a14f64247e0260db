"""A change within functions, in a process that has imported the file and collected its tests already."""

from __future__ import annotations

import gc
from collections import defaultdict
from types import CodeType, FunctionType

#: Of a function: its qualified name, and its first line.
Key = tuple[str, int]


def functions_of(paths: set[str]) -> dict[str, dict[Key, list[FunctionType]]]:
    """All functions that come from these files."""
    found: dict[str, dict[Key, list[FunctionType]]] = {path: defaultdict(list) for path in paths}
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__code__.co_filename in found:
            code = each.__code__
            found[code.co_filename][code.co_qualname, code.co_firstlineno].append(each)
    return found


def changed_functions(path: str, before: bytes, after: bytes) -> dict[Key, CodeType] | None:
    """New code of the functions of a file; None where more than what is within them has changed."""
    old, new = (compile(source, path, "exec", dont_inherit=True) for source in (before, after))
    changed: dict[Key, CodeType] = {}
    if not _paired(old, new, changed):
        return None
    return changed


def _paired(old: CodeType, new: CodeType, changed: dict[Key, CodeType]) -> bool:
    """Whether bodies of the module and its classes are the same, but for the functions in them."""
    inner, other = (
        [each for each in code.co_consts if isinstance(each, CodeType)] for code in (old, new)
    )
    plain, others = (
        [each for each in code.co_consts if not isinstance(each, CodeType)] for code in (old, new)
    )
    if old.co_code != new.co_code or repr(plain) != repr(others) or len(inner) != len(other):
        return False
    if old.co_names != new.co_names:
        return False
    for one, two in zip(inner, other, strict=True):
        if one.co_name != two.co_name or one.co_freevars != two.co_freevars:
            return False
        if not one.co_flags & 2:  # a class: its locals are no fast ones
            if not _paired(one, two, changed):
                return False
        elif one != two:
            changed[one.co_qualname, one.co_firstlineno] = two
            _closures(one, two, changed)
    return True


def _closures(old: CodeType, new: CodeType, changed: dict[Key, CodeType]) -> None:
    """Functions within functions, of which some may exist already, such as decorated ones."""
    inner, other = (
        [each for each in code.co_consts if isinstance(each, CodeType)] for code in (old, new)
    )
    for one, two in zip(inner, other, strict=False):
        if one.co_qualname == two.co_qualname and one.co_freevars == two.co_freevars:
            changed[one.co_qualname, one.co_firstlineno] = two
            _closures(one, two, changed)


def patch(functions: dict[Key, list[FunctionType]], changed: dict[Key, CodeType]) -> None:
    """Give the functions their new code."""
    for key, code in changed.items():
        for function in functions.get(key, ()):
            function.__code__ = code
