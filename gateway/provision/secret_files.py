"""Secrets that a server shows only once: a directory of files, each with one secret, that only their owner can read.

Modes are 0700 and 0600. A file is written as a whole or not at all.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from gateway.errors import ProvisionError
from gateway.state import private_files


class SecretFiles:
    """A directory with a file for each secret: `{name}.token`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.token"

    def read(self, name: str) -> str | None:
        """Return the secret, or None if there is none."""
        try:
            return self.path(name).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ProvisionError(f"{self.path(name)}: expected a readable secret; {error.strerror}") from error
        except UnicodeDecodeError:
            raise ProvisionError(f"{self.path(name)}: expected a readable secret; it is not valid UTF-8") from None

    def write(self, name: str, secret: str) -> None:
        """Keep a secret, in place of an older one."""
        try:
            private_files.make_directory(self.directory)
            private_files.write(self.path(name), secret + "\n")
        except OSError as error:
            raise ProvisionError(f"{self.directory}: cannot keep a secret there; {error.strerror}") from error

    def forget(self, name: str) -> None:
        try:
            private_files.remove(self.path(name))
        except OSError as error:
            raise ProvisionError(f"{self.path(name)}: cannot be removed; {error.strerror}") from error


def fingerprint(secret: str | None) -> str:
    """Return enough of a secret to compare it with another, and not enough to guess it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12] if secret else ""
