"""What the test files share: the modules under test and models that are made once."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chip_classifier.environment import prepare_environment

# As in the task. Without oneDNN, which TensorFlow uses by itself on some processors only, Keras has
# no dilated transposed convolution to compare with.
prepare_environment()

import chip_files
from browser import CHROMIUM, Browser


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers."""
    config.addinivalue_line("markers", "smoke: one test of each kind of run, a minute in all")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test's parameters in one order: that of a set is another one in each process."""
    tests = [item.nodeid.partition("[")[0] for item in items]
    places = {test: place for place, test in reversed([*enumerate(tests)])}
    order = sorted(range(len(items)), key=lambda n: (places[tests[n]], items[n].nodeid))
    items[:] = [items[n] for n in order]


@pytest.fixture(scope="session")
def task() -> ModuleType:
    """The entry script as a module."""
    return chip_files.load_task()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for models that several tests use."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def checksum_model(models: Path) -> Path:
    """A model for 16 x 16 chips that answers with a checksum of its input."""
    return chip_files.save_checksum_model(models / "checksum.h5", 16, 16)


@pytest.fixture(scope="session")
def bands_model(models: Path) -> Path:
    """A model for 4 x 4 chips with three outputs: the largest value of each band."""
    return chip_files.save_bands_model(models / "bands.h5")


@pytest.fixture(scope="session")
def softmax_model(models: Path) -> Path:
    """A model for 4 x 4 chips with two classes: more blue than red, or the other way round."""
    kernel = [[0.1, 0], [0, 0], [0, 0.1]]
    return chip_files.save_dense_model(models / "softmax.h5", kernel, [0, 0], "softmax")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser for all tests; they are skipped where Chromium is not installed."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser, which must have had no trouble, and asked for nothing but the test's page."""
    chromium.problems.clear()
    chromium.requests.clear()
    yield chromium
    assert chromium.problems == []
    asked = [url for url in chromium.requests if not url.startswith(("data:", "blob:null/"))]
    assert all(re.match(r"file:///.*/p\.html(#\w+)?$", url) for url in asked), asked
    assert chromium.evaluate("document.scripts.length") == 1
