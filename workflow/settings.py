"""The settings of the workflow: what stands behind --config, as checked text."""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(Exception):
    """A setting that cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Settings:
    """What the user sets.

    archives: the folder that holds the archives themselves, no further folders.
    model: the model file.
    ports: one ports.json for all archives, or "".
    reference: one file with the features of all archives' chips, or "".
    out: the folder of the results; below the prefix of the store, if there is one.
    gpus: numbers of this machine's GPUs, "0,1,2,3": each task gets one to itself. "" where there is
        none, and on a cluster, whose scheduler gives each task its GPU.
    image: the container image to run with Docker, or "" to run the script.
    python: the Python that has the packages of requirements.txt.
    trained_with: tensorflow or theano.
    """

    archives: str = ""
    model: str = ""
    ports: str = ""
    reference: str = ""
    out: str = "deployed"
    gpus: str = ""
    image: str = ""
    python: str = sys.executable
    trained_with: str = "tensorflow"


def read_settings(config: Mapping[str, object]) -> Settings:
    """Return the settings in --config and --configfile. Raises SettingsError.

    Values are text without blanks around it; Snakemake reads `gpus=0` as a number. One that is
    empty is absent.
    """
    known = list(Settings.__dataclass_fields__)
    if unknown := [name for name in config if name not in known]:
        meant = [difflib.get_close_matches(str(name), known, 1) for name in unknown]
        named = [
            f"'{n}'" + (f" (did you mean {m[0]}?)" if m else "") for n, m in zip(unknown, meant)
        ]
        raise SettingsError(
            f"There is no setting {', '.join(named)}: correct the name. There are "
            f"{', '.join(known)}."
        )
    texts = {name: str(value).strip() for name, value in config.items() if value is not None}
    settings = Settings(**{name: text for name, text in texts.items() if text})
    for name in ("archives", "model"):
        if not getattr(settings, name):
            raise SettingsError(
                f"Set {name}: --config archives=DIR model=FILE, or in a --configfile."
            )
    if "://" in settings.out:
        raise SettingsError(
            f"out={settings.out}: set --default-storage-provider and --default-storage-prefix to "
            "have the results in a store, and out to the name of their folder below that prefix."
        )
    return settings
