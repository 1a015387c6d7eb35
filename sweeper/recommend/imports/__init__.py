"""Space files to start from: of another trainer's file, by the tables of the exports, or of a model and
rows."""

from sweeper.recommend.imports.files import IMPORT_FORMATS, consumer_of, read_tree
from sweeper.recommend.imports.importing import Imported, imported, sweep_name
from sweeper.recommend.imports.starting import Beginning, Method, Start, held_out_share, start

__all__ = [
    "IMPORT_FORMATS",
    "Beginning",
    "Imported",
    "Method",
    "Start",
    "consumer_of",
    "held_out_share",
    "imported",
    "read_tree",
    "start",
    "sweep_name",
]
