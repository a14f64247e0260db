"""Many simulations: tuning, sweeps and their store."""

from relaysim.studies.contract import examine
from relaysim.studies.reruns import Rerun, rerun
from relaysim.studies.store import Store, StoreError
from relaysim.studies.sweeps import load_sweep, sweep
from relaysim.studies.tuning import StartsBelowTargetError, Tuning, tune

__all__ = [
    "Rerun",
    "StartsBelowTargetError",
    "Store",
    "StoreError",
    "Tuning",
    "examine",
    "load_sweep",
    "rerun",
    "sweep",
    "tune",
]
