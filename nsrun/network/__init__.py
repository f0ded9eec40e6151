"""Pods' network: addresses, bridge, veth pairs, masquerading. See `network.py`.

Importing this package imports neither asyncio's subprocess part nor pyroute2: that happens with the first pod that wants an address.
"""

from nsrun.network.addressing import NetworkConfig, PodAddress
from nsrun.network.network import Network
from nsrun.network.networks import Networks

__all__ = ["Network", "NetworkConfig", "Networks", "PodAddress"]
