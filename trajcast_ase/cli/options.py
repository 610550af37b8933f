"""Values that options of several commands take."""

from enum import StrEnum


class Precision(StrEnum):
    """Floating-point types of a network."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
