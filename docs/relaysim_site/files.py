"""Folders of written pages: only what changes is written, and what is no longer made is removed."""

from __future__ import annotations

import pathlib
import shutil

__all__ = ["Folder"]


class Folder:
    """A folder of made files, as a context: files that were not mentioned in it are removed at its end."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._mentioned: set[pathlib.Path] = set()

    def __enter__(self) -> Folder:
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            for path in self.path.rglob("*"):
                if path.is_file() and path not in self._mentioned:
                    path.unlink()

    def file(self, name: str) -> pathlib.Path:
        """The path of a file that is to stay; its folder is there."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._mentioned.add(path)
        return path

    def write(self, name: str, text: str) -> None:
        """Write a text, unless it is there already: what is older than its page is not read again."""
        path = self.file(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def copy(self, name: str, source: pathlib.Path) -> None:
        """Copy a file, unless an equal one is there already."""
        path = self.file(name)
        if not path.exists() or path.read_bytes() != source.read_bytes():
            shutil.copyfile(source, path)
