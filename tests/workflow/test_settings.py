"""The settings behind --config."""

import pytest

from workflow.settings import Settings, SettingsError, read_settings

LEAST = {"archives": "chips", "model": "m.h5"}


def test_settings_are_text_without_blanks_and_empty_ones_are_absent() -> None:
    settings = read_settings({**LEAST, "gpus": 0, "out": "  ", "image": None, "ports": " p.json "})
    assert settings == Settings(archives="chips", model="m.h5", gpus="0", ports="p.json")
    assert settings.out == "deployed"


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"model": " "}, "Set model: "),
        ({"archives": None}, "Set archives: "),
        ({"out": "s3://bucket/run/deployed"}, "--default-storage-prefix"),
        ({"ports_": "x"}, r"no setting 'ports_' \(did you mean ports\?\)"),
        ({"trained_witth": "x", "zzz": "x"}, r"'trained_witth' \(did .* trained_with\?\), 'zzz':"),
    ],
)
def test_settings_that_cannot_be_used_are_explained(config: dict, part: str) -> None:
    with pytest.raises(SettingsError, match=part):
        read_settings({**LEAST, **config})
