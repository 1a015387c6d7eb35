"""What a sweep's trials say about its values, for reports and advice; nothing here decides what runs next."""

from sweeper.search.evidence.importance import importances
from sweeper.search.evidence.surface import Surface, surface_of

__all__ = ["Surface", "importances", "surface_of"]
