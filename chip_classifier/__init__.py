"""The parts of the task deploy-chip-classifier, in the order in which the data meets them.

    ports -> sources, listing -> decode -> pipeline -> classifier -> answers, journal -> report

Nothing here knows of work directories, signals and exit codes: that is the entry script's. Models
are opened by `keras_files`, which knows nothing of chips.
"""

VERSION = "1.2.0"

# 8192 x 8192: hundreds of times the area of a chip, and 200 MB when decoded, so that a file that
# declares more is refused before any memory is taken for it.
MAX_CHIP_PIXELS = 2**26

# Several times those of hyperspectral sensors.
MAX_CHIP_BANDS = 2**10

# The most that MAX_CHIP_PIXELS of four 16-bit bands can need.
MAX_CHIP_BYTES = MAX_CHIP_PIXELS * 8
