"""Draws runs at random, and holds each against what must be true of all: `tests/properties.py`.

``python benchmarks/fuzz.py --inputs 100000`` prints a line for each property, with the smallest input that it
does not hold of; it ends with 1 if there is any. `tests/test_fuzzed.py` draws a few of each.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
import traceback

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))

from hypothesis import HealthCheck, Phase, given, seed, settings
from properties import PROPERTIES
from tqdm.auto import tqdm

#: Inputs drawn with one seed: Hypothesis keeps what it has drawn.
AT_ONCE = 500


def tried(name: str, inputs: int, number: int, bar: tqdm) -> tuple[int, str]:
    """How many inputs of a property held with this seed, and what went wrong with one that did not."""
    drawn, check = PROPERTIES[name]
    done = 0

    def counted(given_this: object) -> None:
        nonlocal done
        check(given_this)
        done += 1
        bar.update()

    phases = (Phase.generate, Phase.shrink)
    some = settings(
        max_examples=inputs,
        deadline=None,
        derandomize=False,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    try:
        seed(number)(some(given(drawn)(counted)))()
    except Exception:
        return done, traceback.format_exc(limit=-4)
    return done, ""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all properties together")
    parser.add_argument("--seed", type=int, default=0, help="of the first 500")
    parser.add_argument(
        "--only", nargs="+", metavar="PROPERTY", choices=PROPERTIES, default=list(PROPERTIES)
    )
    options = parser.parse_args()
    share = -(-options.inputs // len(options.only))
    total = wrong = 0
    began = time.monotonic()
    with tqdm(total=share * len(options.only), unit="input") as bar:
        for name in options.only:
            left, number, failed = share, options.seed, 0
            while left > 0 and number < options.seed + 10 * (share // AT_ONCE + 1):
                bar.set_description(name[:30])
                done, error = tried(name, min(left, AT_ONCE), number, bar)
                left -= done
                if error:
                    failed += 1
                    bar.write(f"{name}, seed {number}: {error}")
                    break
                number += 1
            total += share - max(left, 0)
            wrong += failed
            bar.write(f"{name}: {share - max(left, 0)} inputs, {'FAILED' if failed else 'holds'}")
    seconds = time.monotonic() - began
    print(f"{total} inputs, {wrong} of {len(options.only)} properties failed, {seconds:.0f} s")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
