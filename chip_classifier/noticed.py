"""What a run notices of its chips and of the model's outputs, and warns about once.

The journal keeps it beside the answers: a run that resumes has not seen these chips, but warns too.
"""

from collections.abc import Collection
from enum import StrEnum

from chip_classifier.log import warn


class Noticed(StrEnum):
    """What may be wrong with some of the chips, by the words of the journal."""

    SIXTEEN_BITS = "16 bits"
    NO_PROBABILITIES = "no probabilities"


_WARNINGS = {
    Noticed.SIXTEEN_BITS: (
        "Some chips have 16-bit bands, which are read as value / 256: chips with 11 significant "
        "bits, as of most satellites, turn almost black: set the port bit_depth to 11, or to what "
        "they have."
    ),
    Noticed.NO_PROBABILITIES: (
        "The model's outputs are no probabilities (values below 0 or above 1): the certainties are "
        "its values as they are."
    ),
}


def warn_about(noticed: Collection[str]) -> None:
    """Warn about what was noticed, unless that was done before."""
    for one, warning in _WARNINGS.items():
        if one in noticed:
            warn(warning)
