"""Descriptors: each connection and each open file takes one."""

from __future__ import annotations

import resource


def raise_descriptor_limit() -> None:
    """Let this process open as many files as the system allows it: by default it may open 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
