"""Update rules, each a frozen dataclass of hyper-parameters.

See `relaysim.algorithms.base` for the protocol, and `relaysim.algorithms.events` for asynchronous methods.
"""

# A family's file lists its methods; what stands in its list is offered here.
# ruff: noqa: F403

from relaysim.algorithms import (
    accelerated,
    acid,
    adaptive,
    compressed,
    control,
    corrected,
    dadao,
    delayed,
    disagreement,
    global_average,
    gossip,
    heavy_ball,
    infrequent,
    local_rates,
    local_steps,
    multipliers,
    power_gossip,
    private,
    push_sum,
    relay,
    robust,
    sparse,
    swarm,
    variance_reduced,
)
from relaysim.algorithms.accelerated import *
from relaysim.algorithms.acid import *
from relaysim.algorithms.adaptive import *
from relaysim.algorithms.checking import check as check  # what __all__ lists are methods
from relaysim.algorithms.compressed import *
from relaysim.algorithms.control import *
from relaysim.algorithms.corrected import *
from relaysim.algorithms.dadao import *
from relaysim.algorithms.delayed import *
from relaysim.algorithms.disagreement import *
from relaysim.algorithms.global_average import *
from relaysim.algorithms.gossip import *
from relaysim.algorithms.heavy_ball import *
from relaysim.algorithms.infrequent import *
from relaysim.algorithms.local_rates import *
from relaysim.algorithms.local_steps import *
from relaysim.algorithms.multipliers import *
from relaysim.algorithms.power_gossip import *
from relaysim.algorithms.private import *
from relaysim.algorithms.push_sum import *
from relaysim.algorithms.relay import *
from relaysim.algorithms.robust import *
from relaysim.algorithms.sparse import *
from relaysim.algorithms.swarm import *
from relaysim.algorithms.variance_reduced import *
from relaysim.support.names import attribute_error

__all__: list[str] = []
__all__ += accelerated.__all__
__all__ += acid.__all__
__all__ += adaptive.__all__
__all__ += compressed.__all__
__all__ += control.__all__
__all__ += corrected.__all__
__all__ += dadao.__all__
__all__ += delayed.__all__
__all__ += disagreement.__all__
__all__ += global_average.__all__
__all__ += gossip.__all__
__all__ += heavy_ball.__all__
__all__ += infrequent.__all__
__all__ += local_rates.__all__
__all__ += local_steps.__all__
__all__ += multipliers.__all__
__all__ += power_gossip.__all__
__all__ += private.__all__
__all__ += push_sum.__all__
__all__ += relay.__all__
__all__ += robust.__all__
__all__ += sparse.__all__
__all__ += swarm.__all__
__all__ += variance_reduced.__all__


def __getattr__(name: str) -> object:
    raise attribute_error(__name__, name, __all__)
