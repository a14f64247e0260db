"""What crosses the edges of a graph in a round, and how much of it."""

from relaysim.network.network import AVERAGE_COUNTS, Network
from relaysim.network.relay import Mail, PairMail

__all__ = ["AVERAGE_COUNTS", "Mail", "Network", "PairMail"]
