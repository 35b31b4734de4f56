"""Files of a data set in the catalogue: where they come from, and their verified copies on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from nmfnet.data.formats.raw import did_you_mean, file_sha256
from nmfnet.errors import UserError

__all__ = ["Origin", "cache_folder"]


def cache_folder() -> Path:
    """Folder that holds NAME/FILE for every data set: ``$NMFNET_DATA``, else the user's cache."""
    chosen = os.environ.get("NMFNET_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("nmfnet"))


@final
@dataclass(frozen=True, kw_only=True)
class Origin:
    """Provenance of one data set.

    Parameters
    ----------
    name : str
        Name of the data set, and of its folder.
    licence, citation : str
    files : mapping of file name to {"url": str, "sha256": str}
    terms : str, optional
        Conditions of use, shown before the first download.
    """

    name: str
    licence: str
    citation: str
    files: Mapping[str, Mapping[str, str]] = field(repr=False)
    terms: str | None = None

    def folder(self) -> Path:
        """The folder of this data set."""
        return cache_folder() / self.name

    def path(self, filename: str) -> Path:
        """A verified file: from the cache folder, else downloaded into it.

        Raises
        ------
        UserError
            Not a file of the data set, no network, a folder that cannot be written, or bytes that
            differ from the registered ones.
        """
        entry = self._entry(filename)
        target = self.folder() / filename
        if target.is_file() and file_sha256(target) == entry["sha256"]:
            return target
        return self._download(filename, target)

    def sources(self, *filenames: str | None) -> dict[str, str]:
        """``NAME/FILE`` -> sha256 of the named files; None is left out."""
        named = [name for name in filenames if name is not None]
        return {f"{self.name}/{name}": self._entry(name)["sha256"] for name in named}

    def is_cached(self, filename: str) -> bool:
        """Whether the file is on disk with the registered bytes."""
        target = self.folder() / filename
        return target.is_file() and file_sha256(target) == self._entry(filename)["sha256"]

    def _entry(self, filename: str) -> Mapping[str, str]:
        if filename not in self.files:
            known = list(self.files)
            raise UserError(
                f"{filename!r} is not a file of the data set {self.name}. Its files: "
                f"{', '.join(known)}.{did_you_mean(filename, known)}"
            )
        return self.files[filename]

    def _download(self, filename: str, target: Path) -> Path:
        import pooch

        entry = self._entry(filename)
        damaged = target.exists()
        show = sys.stderr.isatty()
        if self.terms is not None and not target.parent.exists():
            print(f"Terms of {self.name}: {self.terms}", file=sys.stderr)
        pooch.get_logger().setLevel("WARNING")
        try:
            pooch.retrieve(
                entry["url"],
                known_hash=f"sha256:{entry['sha256']}",
                fname=filename,
                path=target.parent,
                downloader=pooch.HTTPDownloader(progressbar=show, timeout=30),
            )
        except (OSError, ValueError) as error:
            state = (
                "is there but its bytes differ from the registered ones"
                if damaged
                else "is not there"
            )
            raise UserError(
                f"The data set {self.name} needs the file {target}, which {state}, and the "
                f"download failed: {_reason(error)}\n"
                f"  from   {entry['url']}\n"
                f"  sha256 {entry['sha256']}\n"
                f"Download it by hand to that place, or set NMFNET_DATA to a folder that holds "
                f"{self.name}/{filename}."
            ) from error
        return target


def _reason(error: Exception) -> str:
    """One line about why a download failed."""
    if isinstance(error, PermissionError):
        return f"{error.filename} cannot be written."
    if isinstance(error, ValueError) and "hash" in str(error):
        return "the server sent other bytes than the registered ones."
    name = type(error).__name__
    if "Connection" in name or "Timeout" in name:
        return "no connection to the server (offline?)."
    return f"{name}: {str(error).splitlines()[0] if str(error) else 'no details'}"
