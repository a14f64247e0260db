"""Gossip that is repeated until workers agree well enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.faults import ALTERED, LATE_MESSAGES, STOPS
from relaysim.network import Network
from relaysim.support.checks import plain_options, real_number, whole_number

__all__ = ["ConsensusControl", "Critical"]

ROUNDING = 1e-30
# So many rounds bring workers together on graphs that are not poorly connected.
ENOUGH_ROUNDS = 1000


@dataclass(frozen=True)
class Critical:
    """The critical consensus distance: Γ_t² = γσ²/(Ln) + ‖∇f(x̄_t)‖²/(8L²).

    While Ξ_t² ≤ Γ_t² gossip converges like centralised SGD. The mean of the gradients observed in the
    step stands in for ∇f(x̄_t), so that with noise the second term is larger by σ²/(8nL²) in expectation.

    Args:
        smoothness: L > 0.
        sigma2: σ² ≥ 0.

    Source: Kong, Lin, Koloskova, Jaggi, Stich, "Consensus control for decentralized deep learning", ICML
    2021; constants as quoted in a secondary text.

    >>> Critical(smoothness=1.0, sigma2=0.1).sigma2
    0.1
    """

    smoothness: float
    sigma2: float = 0.0

    def __post_init__(self) -> None:
        plain_options(self)
        if not real_number(self.smoothness, "smoothness") > 0:
            raise ValueError(f"smoothness must be positive, not {self.smoothness!r}")
        real_number(self.sigma2, "sigma2", 0)

    def distance(self, learning_rate: Rate, mean_gradient: np.ndarray, n: int) -> Rate:
        """Γ_t², a number or ``(r,)``, from the mean gradient ``(d[, r])``."""
        L = self.smoothness
        return learning_rate * self.sigma2 / (L * n) + (mean_gradient**2).sum(axis=0) / (8 * L * L)


# Of one phase of a run.
Target: TypeAlias = float | Critical


@dataclass(frozen=True)
class ConsensusControl(Method):
    """Consensus control: after each step of a method, X ← WX until Ξ² is at most a target.

    Ξ² = (1/n) Σ_i ‖x_i − x̄‖², each replica for itself.

    Args:
        base: the method, one that mixes.
        target: a number ≥ 0 (``math.inf``: no control), a `Critical`, or pairs (first step, target) for
            the phases of a run, the first at step 0. For a target relative to the uncontrolled run take
            a share of what that run's history has.
        most_rounds: of mixing in a step, beside the method's own.

    Any connected topology. Every further round sends one vector per directed edge; rounds are counted by
    ``vectors_sent``. Where mixing matrices repeat, the k-th further round of step t uses W_{t+k}.

    Source: Kong, Lin, Koloskova, Jaggi, Stich, "Consensus control for decentralized deep learning", ICML
    2021.

    >>> from relaysim.algorithms import DPSGD
    >>> ConsensusControl(DPSGD(), target=((0, 0.01), (100, math.inf))).target_at(200)
    inf
    """

    base: Method
    target: Target | tuple[tuple[int, Target], ...]
    most_rounds: int = ENOUGH_ROUNDS

    label: ClassVar[str] = "Consensus control"
    references: ClassVar[tuple[str, ...]] = ("kong2021consensus",)
    uses: ClassVar[str] = "mixing"
    affine: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        if not isinstance(self.base, Method) or self.base.uses != "mixing":
            raise ValueError(
                f"consensus control needs a method that mixes with a matrix, such as DPSGD(), not "
                f"{self.base!r}"
            )
        if isinstance(self.base, ConsensusControl):
            raise ValueError(
                "consensus control holds its method to one distance: give ConsensusControl the method of "
                "the inner one, and the smaller of both targets"
            )
        if self.base.oracle_needs != "nothing":
            raise ValueError(
                f"consensus control watches the one gradient of a step, and {type(self.base).__name__} "
                f"asks for gradients on single examples; take a method such as GradientTracking()"
            )
        if self.base.mixing_needs.endswith("column stochastic"):
            raise ValueError(
                f"consensus control mixes models further, which takes rows that sum to 1, and not columns "
                f"as those of {type(self.base).__name__} do; give it a method such as DPSGD()"
            )
        whole_number(self.most_rounds, "most_rounds", 0)
        target: Any = self.target
        if isinstance(target, np.ndarray) and target.ndim == 2 and target.shape[1] == 2:
            target = [(int(first) if first % 1 == 0 else first, each) for first, each in target]
        if isinstance(target, list | tuple):
            phases = tuple(
                (whole_number(first, "the first step of a phase", 0), each)
                for first, each in target
            )
            if (
                not phases
                or phases[0][0] != 0
                or [p[0] for p in phases] != sorted({p[0] for p in phases})
            ):
                raise ValueError(
                    f"phases must begin at step 0 and at increasing steps, not {target!r}; give pairs "
                    f"(first step, target)"
                )
            object.__setattr__(self, "target", phases)
        checked = tuple((first, _checked(each)) for first, each in self._phases)
        alone = not isinstance(self.target, tuple)
        object.__setattr__(self, "target", checked[0][1] if alone else checked)

    @property
    def hops_per_step(self) -> float:
        return self.base.hops_per_step + self.most_rounds

    @property
    def overlaps(self) -> bool:
        return self.base.overlaps

    @property
    def cycle(self) -> int:
        return self.base.cycle

    @property
    def repeats_from(self) -> int:
        return max(self.base.repeats_from, self._phases[-1][0])

    @property
    def random(self) -> bool:
        return self.base.random

    @property
    def rate_scale(self) -> float:
        return self.base.rate_scale

    @property
    def mixing_needs(self) -> str:
        return self.base.mixing_needs

    @property
    def several_rounds(self) -> bool:
        return self.base.several_rounds

    @property
    def worker_rates(self) -> bool:
        """As the method, unless a critical distance is that of one rate."""
        critical = any(isinstance(target, Critical) for _, target in self._phases)
        return self.base.worker_rates and not critical

    @property
    def faults(self) -> tuple[str, ...]:
        # Of workers that stop it would have to hold more than the rule's own state, and further rounds are
        # not the same in every step.
        without = (ALTERED, STOPS, LATE_MESSAGES)
        return tuple(kind for kind in self.base.faults if kind not in without)

    @property
    def sends_every(self) -> None:
        """None: how often a step sends depends on how far workers are apart."""
        return None

    def vectors_per_edge(self, d: int) -> None:
        """None: it depends on how far workers are apart."""

    @property
    def exact(self) -> bool:
        """Whether x* is reached for any ζ, by the target of the last phase.

        Where the distance is held to 0, or to a critical one that falls to 0 with the gradient, any
        method is exact, as long as ``most_rounds`` do not bind: that is said with 1000 or more, which on
        a poorly connected graph may bind all the same. With another target, which leaves a disagreement,
        it is exact if the method is with its iterates mixed further.
        """
        target = self._phases[-1][1]
        if target == math.inf:
            return self.base.exact
        falls = target.sigma2 == 0 if isinstance(target, Critical) else target == 0
        return (falls and self.most_rounds >= ENOUGH_ROUNDS) or (
            self.base.exact and self.base.exact_when_mixed_further
        )

    @property
    def exact_when_mixed_further(self) -> bool:
        return self.exact

    @property
    def _phases(self) -> tuple[tuple[int, Target], ...]:
        return self.target if isinstance(self.target, tuple) else ((0, self.target),)

    def target_at(self, step: int) -> Target:
        """The target in force at a step."""
        return [each for first, each in self._phases if first <= step][-1]

    def init(self, x0: np.ndarray, network: Network) -> Any:
        return self.base.init(x0, network)

    def step(self, state: Any, round: Round) -> Any:
        target = self.target_at(round.step)
        if isinstance(target, Critical):
            mean_gradient = np.zeros(1)

            def watched(x: np.ndarray) -> np.ndarray:
                nonlocal mean_gradient
                found = round.gradient(x)
                mean_gradient = found.mean(axis=0)
                return found

            following = self.base.step(state, round.with_gradient(watched))
            limit = target.distance(round.learning_rate, mean_gradient, len(following.x))
        else:
            following, limit = self.base.step(state, round), target
        x = following.x
        for k in range(1, self.most_rounds + 1):
            apart = _mean_square(x - np.add.reduce(x, axis=0) * (1 / len(x)))
            above = apart > limit
            if not above.any():
                break
            if k == 1:  # rounding keeps workers apart by as much as this
                limit = np.maximum(limit, ROUNDING * _mean_square(x))
                above = apart > limit
                if not above.any():
                    break
            share = above.astype(float) if np.ndim(above) else float(above)
            mixed = round.mix_further(x, k, share)
            x = mixed if above.all() else np.where(above, mixed, x)
        return following._replace(x=x)


def _checked(target: object) -> Target:
    """A target of one phase: a number is a float, as it is for other options."""
    if isinstance(target, Critical):
        return target
    return math.inf if target == math.inf else real_number(target, "target", 0)


def _mean_square(x: np.ndarray) -> np.ndarray:
    """(1/n) Σ_i ‖x_i‖², ``()`` or ``(r,)``."""
    return np.einsum("nd...,nd...->...", x, x) / len(x)
