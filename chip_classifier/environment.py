"""The settings that libraries read from the environment when they are loaded: all in one place."""

import os

from chip_classifier import MAX_CHIP_PIXELS

# What GDAL and the libraries in it take settings from, of the user's or of other programs': plugins
# to load, drivers to skip, how to read a format.
GDAL_SETTINGS = ("GDAL", "GTIFF", "CPL", "VSI", "OGR", "OSR", "PROJ", "OPJ", "JPEG", "TIFF")

IN_FORCE = {
    # A file that declares more is refused before any memory is taken for it.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(MAX_CHIP_PIXELS),
    # The task decodes on all cores already: OpenCV's own threads would only wait for their turns.
    "OPENCV_FOR_THREADS_NUM": "1",
    # TensorFlow is the backend whatever the user's own settings for Keras say; it reads and writes
    # none (a directory that cannot be).
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,
    "GDAL_CONFIG_FILE": os.devnull,  # else one in the user's home directory
}
UNLESS_SET = {
    "OPENCV_LOG_LEVEL": "OFF",
    "TF_CPP_MIN_LOG_LEVEL": "2",  # errors only
    # oneDNN, whose convolutions are faster, on every processor; by itself TensorFlow uses it only
    # on some.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


def prepare_environment() -> None:
    """Set what OpenCV, GDAL, TensorFlow and Keras read.

    To be called before any of them is loaded, and before there are other threads, which may not
    look at the environment while it changes.
    """
    for name in list(os.environ):
        if name.startswith(GDAL_SETTINGS):
            del os.environ[name]
    os.environ.update(IN_FORCE)
    for name, value in UNLESS_SET.items():
        os.environ.setdefault(name, value)
