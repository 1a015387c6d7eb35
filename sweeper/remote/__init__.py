"""What nodes that share no file system exchange, through a folder at an address (``resources.files``).

A trial goes on reading and writing folders of its node's own disk; this room moves them. This door imports no
fsspec.
"""

from sweeper.remote.checks import check_files
from sweeper.remote.driver import DriverFiles
from sweeper.remote.items import Shells
from sweeper.remote.node import NodeFiles
from sweeper.remote.place import Files, copies_here, inside, moved, name_of, node_root
from sweeper.remote.record import SweepRecord, address_of, bring_back, refuse_taken
from sweeper.remote.storage import RemoteFilesError, RemoteFolder
from sweeper.remote.trial import TrialExchange

__all__ = [
    "DriverFiles",
    "Files",
    "NodeFiles",
    "RemoteFilesError",
    "RemoteFolder",
    "Shells",
    "SweepRecord",
    "TrialExchange",
    "address_of",
    "bring_back",
    "check_files",
    "copies_here",
    "inside",
    "moved",
    "name_of",
    "node_root",
    "refuse_taken",
]
