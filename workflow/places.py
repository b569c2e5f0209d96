"""Where the files of the workflow are: in folders of this machine, or in an object store.

Where machines share no folder, files are in a store, below --default-storage-prefix; names that
begin like s3:// are in a store in any case.
"""

from collections.abc import Iterable
from pathlib import Path

from snakemake.io import glob_wildcards
from snakemake.workflow import Workflow


class Places:
    """The folders and the store of one call of the workflow."""

    def __init__(self, workflow: Workflow) -> None:
        """Take the store from Snakemake's command line; workflow is Snakemake's object."""
        self._workflow = workflow
        self.prefix: str | None = workflow.storage_settings.default_storage_prefix

    def is_stored(self, name: str) -> bool:
        """Return whether a file or folder is in a store."""
        return bool(self.prefix) or "://" in name

    def whole_name(self, name: str) -> str:
        """Return the name of a file in a store with its prefix, or the path on this machine."""
        if "://" in name:
            return name
        return f"{self.prefix.rstrip('/')}/{name}" if self.prefix else str(Path(name).absolute())

    def place(self, name: str) -> str:
        """Return a file or folder as Snakemake takes it: in a store, or a path of this machine."""
        whole = self.whole_name(name)
        return self._workflow.storage_registry(whole) if self.is_stored(name) else whole

    def stored(self, name: str) -> object:
        """Return the object of Snakemake's storage plugin for a file or folder in a store."""
        return self.place(name).flags["storage_object"]

    def exists(self, name: str) -> bool:
        """Return whether there is such a file, in a folder or in a store."""
        if self.is_stored(name):
            return self._workflow.async_run(self.stored(name).managed_exists())
        return Path(name).exists()

    def fetched(self, name: str) -> Path:
        """Return the path of a file on this machine, a copy if it is in a store."""
        if not self.is_stored(name):
            return Path(name)
        stored = self.stored(name)
        self._workflow.async_run(stored.managed_retrieve())
        return Path(stored.local_path())

    def files_in(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, or below a prefix in a store."""
        if not self.is_stored(folder):
            return [path.name for path in Path(folder).glob("*")]
        prefix = self.stored(folder)
        if hasattr(prefix, "get_subkeys"):  # S3, for which glob_wildcards fails (plugin 0.3.6)
            return [item.key.removeprefix(f"{prefix.key}/") for item in prefix.get_subkeys()]
        return glob_wildcards(self.place(f"{folder}/{{archive}}")).archive

    def fetch(self, paths: Iterable[Path]) -> None:
        """Copy files from the store, if results are in one, to where Snakemake has its copies."""

        async def retrieve() -> None:
            for path in paths:
                stored = self.stored(str(path))
                if await stored.managed_exists():
                    await stored.managed_retrieve()

        if self.prefix:
            self._workflow.async_run(retrieve())

    def send(self, paths: Iterable[Path]) -> None:
        """Put the copies of files into the store, if results are in one."""

        async def store() -> None:
            for path in paths:
                await self.stored(str(path)).managed_store()

        if self.prefix:
            self._workflow.async_run(store())

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files from the store, if results are in one."""

        async def remove() -> None:
            for path in paths:
                await self.stored(str(path)).managed_remove()

        if self.prefix:
            self._workflow.async_run(remove())
