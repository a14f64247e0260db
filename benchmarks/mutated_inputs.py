"""Reads damaged copies of all that relaysim reads, as many as are asked for, and prints what went wrong.

``python benchmarks/mutated_inputs.py 20000 [SEED]``; `tests/test_mutations.py` has 500 of them.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))

from damaged import faults_of, readers


def main(count: int, seed: int = 1) -> int:
    """Try so many, in equal numbers of each kind; returns how many were not met as they should be."""
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        kinds = readers(folder)
        for kind, reader in kinds.items():
            start = time.perf_counter()
            faults = faults_of(reader, count // len(kinds), seed, folder / "damaged.npz")
            wrong += len(faults)
            print(
                f"{kind}: {len(faults)} of {count // len(kinds)}, {time.perf_counter() - start:.0f} s"
            )
            for fault in faults[:10]:
                print(f"    {fault}")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(*map(int, sys.argv[1:])), 1))
