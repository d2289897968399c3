"""Where secrets are kept: for their owner alone, whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gateway.errors import ProvisionError
from gateway.provision.secret_files import SecretFiles, fingerprint


@pytest.fixture
def secret_files(tmp_path: Path) -> SecretFiles:
    return SecretFiles(tmp_path / "deep" / "secrets")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_read_back(secret_files: SecretFiles) -> None:
    """What was kept is there, without the line break of its file; another name has nothing."""
    secret_files.write("gateway", "s3cret-ü")
    assert secret_files.read("gateway") == "s3cret-ü"
    assert secret_files.path("gateway").read_text(encoding="utf-8") == "s3cret-ü\n"
    assert secret_files.read("other") is None


def test_only_the_owner_may_look(secret_files: SecretFiles) -> None:
    """The directory has mode 0700 and each file 0600, under whatever umask."""
    before = os.umask(0)
    try:
        secret_files.write("gateway", "secret")
        secret_files.write("gateway", "another")
    finally:
        os.umask(before)
    assert mode(secret_files.directory) == 0o700
    assert mode(secret_files.path("gateway")) == 0o600


def test_a_secret_is_replaced_whole(secret_files: SecretFiles) -> None:
    """A new secret takes the place of the old one by a rename: who has the old file open still reads all of it, and
    nothing else is left."""
    secret_files.write("gateway", "a long secret")
    with secret_files.path("gateway").open() as open_before:
        secret_files.write("gateway", "short")
        assert open_before.read() == "a long secret\n"
    assert secret_files.read("gateway") == "short"
    assert [path.name for path in secret_files.directory.iterdir()] == ["gateway.token"]


def test_a_failed_write_leaves_the_old_secret(secret_files: SecretFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk fails the old secret is still there, no half of the new one beside it, and the error says
    where."""
    secret_files.write("gateway", "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.state.private_files.os.fsync", full)
    with pytest.raises(ProvisionError, match=r"secrets: cannot keep a secret there; No space left"):
        secret_files.write("gateway", "new")
    assert secret_files.read("gateway") == "old"
    assert [path.name for path in secret_files.directory.iterdir()] == ["gateway.token"]


def test_an_empty_file_is_not_a_secret(secret_files: SecretFiles) -> None:
    """A file without anything in it counts as none."""
    secret_files.write("gateway", "")
    assert secret_files.read("gateway") is None


def test_unreadable_secret_is_reported(secret_files: SecretFiles) -> None:
    """A secret that is a directory, or not text, is reported with its path: it is not taken for a lost one."""
    secret_files.path("gateway").mkdir(parents=True)
    with pytest.raises(ProvisionError, match=r"gateway\.token: expected a readable secret; Is a directory"):
        secret_files.read("gateway")
    secret_files.path("binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ProvisionError, match=r"binary\.token: expected a readable secret; it is not valid UTF-8"):
        secret_files.read("binary")


def test_unwritable_directory_is_reported(tmp_path: Path) -> None:
    """The error names the directory."""
    (tmp_path / "secrets").write_text("a file")
    with pytest.raises(ProvisionError, match="secrets: cannot keep a secret there; File exists"):
        SecretFiles(tmp_path / "secrets").write("gateway", "secret")


def test_a_forgotten_secret_is_gone(secret_files: SecretFiles) -> None:
    """Forgetting removes it, and may be done twice."""
    secret_files.write("gateway", "secret")
    secret_files.forget("gateway")
    secret_files.forget("gateway")
    assert secret_files.read("gateway") is None


def test_a_fingerprint_distinguishes_secrets() -> None:
    """The same secret has the same fingerprint, another one another; without a secret it is empty."""
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")
    assert len(fingerprint("a")) == 12
    assert fingerprint(None) == fingerprint("") == ""
