"""What can go wrong with a run, apart from the model (keras_files) and the system."""


class TaskError(Exception):
    """The task cannot do what it was asked to; the message is one sentence for the user."""


class BrokenArchive(Exception):
    """The archive cannot be read to its end; the message says after which member."""


class UndecodableChip(Exception):
    """A chip has no pixels to classify; the message is the reason, for unclassified.json."""


class Stopped(BaseException):
    """The task was asked to stop by a signal."""
