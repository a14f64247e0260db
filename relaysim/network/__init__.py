"""What crosses the edges of a graph in a round, and how much of it."""

from relaysim.network.network import AVERAGE_COUNTS, AnyMail, Network
from relaysim.network.rehung import RehungMail
from relaysim.network.relay import Mail, PairMail
from relaysim.network.slots import Heard

__all__ = ["AVERAGE_COUNTS", "AnyMail", "Heard", "Mail", "Network", "PairMail", "RehungMail"]
