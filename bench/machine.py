"""Where a result was taken: the machine, the versions, the commit."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.children import ROOT
from tests.servers import find

PACKAGES = ("paho-mqtt", "mqtt5", "pydantic", "influxdb-client", "aiomqtt", "uvloop")


def describe() -> dict[str, Any]:
    """Return all of it, as JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _machine(),
        "versions": _versions(),
    }


def _machine() -> dict[str, Any]:
    return {
        "cpu": _find(r"model name\s*: (.+)", "/proc/cpuinfo"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_find(r"MemTotal:\s*(\d+)", "/proc/meminfo") or 0) / (1 << 20), 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _find(pattern: str, path: str) -> str:
    found = re.search(pattern, Path(path).read_text())
    return found[1].strip() if found else ""


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    found["mosquitto"] = _first(r"version (\S+)", "mosquitto", "-h")
    found["influxd"] = _first(r"v?(\d[\w.]+)", "influxd", "version")
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {name: version for name, version in found.items() if version}


def _first(pattern: str, binary: str, *arguments: str) -> str:
    program = find(binary)
    if program is None:
        return ""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else ""


def _commit() -> str:
    git = find("git")
    if git is None:
        return ""
    asked = [git, "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
