"""Bearer tokens (RFC 6750) of operators and startups, known by their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config import Config
from gateway.config.credentials import operator_token, startup_token, token_variable


@dataclass(frozen=True, slots=True)
class Principal:
    """Owner of a token. `startup` is None for an operator, who may see everything."""

    startup: str | None

    @property
    def is_operator(self) -> bool:
        return self.startup is None

    def may_see(self, startup: str) -> bool:
        return self.startup is None or self.startup == startup


class Tokens:
    """All tokens, kept as SHA-256, so that no plain one stays in memory.

    Looking one up by its hash costs the same however many there are, and its time depends on the hash alone, whose
    beginning nobody can choose: it reveals nothing of a token.
    """

    def __init__(
        self, startups: Mapping[str, str], operator: str | None, hashed: Mapping[str, str] | None = None
    ) -> None:
        self._known = {_digest(token): Principal(slug) for slug, token in startups.items()}
        self._known |= {bytes.fromhex(digest): Principal(slug) for slug, digest in (hashed or {}).items()}
        if operator:
            self._known[_digest(operator)] = Principal(None)

    @classmethod
    def of(cls, config: Config) -> Tokens:
        """Return the tokens that the configuration and the environment name.

        Raises:
            SecretMissing: a file that is named cannot be read.
        """
        found = {startup.slug: startup_token(startup) for startup in config.startups}
        hashed = {startup.slug: startup.token_sha256 for startup in config.startups if startup.token_sha256}
        plain = {slug: token for slug, token in found.items() if token}
        return cls(plain, operator_token(config.settings), hashed)

    def missing(self, config: Config) -> list[str]:
        """List those who have no token, each with how to give it one."""
        known = {principal.startup for principal in self._known.values()}
        problems = [
            f"startup {startup.slug} has no API token: set token_sha256 or token_file in its file, or "
            f"{token_variable(startup.slug)}"
            for startup in config.startups
            if startup.slug not in known
        ]
        if None not in known:
            problems.append("operators have no API token: set http.operator_token_file, or GATEWAY_OPERATOR_TOKEN")
        return problems

    def principal(self, token: str) -> Principal | None:
        """Return the owner of a token; None if it is unknown."""
        return self._known.get(_digest(token))

    def owner(self, hash_: str) -> Principal | None:
        """Return the owner of a token with this `token_hash`; None if it is unknown."""
        return self._known.get(bytes.fromhex(hash_))


def token_hash(token: str) -> str:
    """Return what `token_sha256` in a startup's file holds."""
    return _digest(token).hex()


def _digest(token: str) -> bytes:
    # Whatever a peer sends is a token, lone surrogates included: a wrong one.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
