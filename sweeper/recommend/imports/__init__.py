"""Files of other trainers as space files, by the tables of the exports."""

from sweeper.recommend.imports.files import IMPORT_FORMATS, consumer_of, read_tree
from sweeper.recommend.imports.importing import Imported, imported

__all__ = ["IMPORT_FORMATS", "Imported", "consumer_of", "imported", "read_tree"]
