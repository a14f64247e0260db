"""The only loops: a problem, a topology and an algorithm advance together, step by step."""

from relaysim.engine import continuation
from relaysim.engine.simulation import simulate

__all__ = ["continuation", "simulate"]
