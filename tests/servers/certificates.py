"""Certificates of one day, made by the `openssl` program as operators make theirs by docs/tls.md."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.processes import need

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
LEAF = "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
SERVER = LEAF + "extendedKeyUsage=serverAuth\nsubjectAltName="
CLIENT = LEAF + "extendedKeyUsage=clientAuth\n"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, in PEM."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority under `directory`: `Authority(tmp_path, "test bed").server()`."""

    def __init__(self, directory: Path, name: str = "test bed") -> None:
        need("openssl")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._own = Certificate(directory / "ca.pem", directory / "ca.key")
        _openssl(
            "req", "-x509", *EC, "-days", "1", "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self._own.key, "-out", self._own.cert,
        )  # fmt: skip

    @property
    def cert(self) -> Path:
        """Certificate by which others trust this authority."""
        return self._own.cert

    def server(self, name: str = "localhost") -> Certificate:
        """Issue one for a server of that name; localhost is also 127.0.0.1."""
        more = ",IP:127.0.0.1" if name == "localhost" else ""
        return self._issue(name, f"{SERVER}DNS:{name}{more}\n")

    def client(self, name: str) -> Certificate:
        """Issue one for a client; `name` is its CN."""
        return self._issue(name, CLIENT)

    def _issue(self, name: str, extensions: str) -> Certificate:
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        request, settings = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        settings.write_text(extensions)
        _openssl("req", "-new", *EC, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self._own.cert, "-CAkey", self._own.key, "-CAcreateserial",
            "-days", "1", "-extfile", settings, "-out", made.cert,
        )  # fmt: skip
        return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
