"""InfluxDB 2: a bucket and a read token for each startup, and one token for the gateway.

Each of several stores has an InfluxDB with what its own startups need.

InfluxDB shows a token once, at its creation (from 2.9 on it stores them hashed): each is kept in a secret file. The
description of a token has the fingerprint of its secret, so that a lost or stale file shows in the next plan. What is
ours has `MARK`. Permissions cannot be changed: a token that needs others is replaced, then the old one is deleted. No
token of ours opens a bucket that has a wanted name and is not ours.

A startup that has ended keeps its bucket, and the gateway its permissions: what waits in the journal must still be
written, and the export read. The bucket is neither created nor removed, and no step concerns it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from influxdb_client import Authorization, BucketRetentionRules, InfluxDBClient, Permission, PermissionResource
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from gateway.config import Config
from gateway.config.credentials import store_setting
from gateway.config.models import InfluxDB
from gateway.errors import AdminRejected, ProvisionError, ServerUnreachable
from gateway.provision.plan import MARK, Credential, Key, Resource, Step
from gateway.provision.secret_files import SecretFiles, fingerprint

GATEWAY = "gateway"
_DESCRIPTION = re.compile(rf"{MARK}: (\S+)(?: #([0-9a-f]{{12}}))?")
_READ = "read-"
_PAGE = 100
_DAY = 86_400
T = TypeVar("T")


class InfluxDBServer:
    """An implementation of `plan.Server` for the InfluxDB 2 of a store; None is the default store.

    It holds only startups of that store. All servers of a plan share `owners`: which of them manages an organisation.
    """

    def __init__(
        self,
        settings: InfluxDB,
        url: str,
        token: str,
        secret_files: SecretFiles,
        store: str | None = None,
        owners: dict[str, str] | None = None,
    ) -> None:
        self.name = server_name(store)
        self._store = store
        self._owners = {} if owners is None else owners
        self._settings = settings
        self._url = url
        self._secret_files = secret_files
        self._client = InfluxDBClient(url=url, token=token, org=settings.org, timeout=20_000)
        self._buckets: dict[str, str] = {}
        self._tokens: dict[str, list[str]] = {}
        self._ended: set[str] = set()
        self._foreign: set[str] = set()

    def wanted(self, config: Config) -> list[Resource]:
        """Return the buckets first, since tokens name them."""
        startups = [startup for startup in config.startups if startup.store == self._store]
        buckets = {startup.slug: self.bucket(startup.slug) for startup in startups}
        resources = [
            Resource(self.name, "bucket", buckets[startup.slug], {"retention_s": int(startup.retention)}, startup.slug)
            for startup in startups
        ]
        everything = _rights(bucket for bucket in buckets.values() if bucket not in self._foreign)
        if everything:  # InfluxDB creates no token without permissions
            resources.append(self._token(GATEWAY, everything))
        for slug, bucket in buckets.items():
            token = self._token(read_token_name(slug), [f"read {bucket}"], slug)
            resources.append(replace(token, needs=(Key(self.name, "bucket", bucket),)))
        return resources

    async def actual(self, config: Config) -> list[Resource]:
        """Return buckets and tokens that are ours, and buckets with a wanted name."""
        ended = {self.bucket(startup.slug) for startup in config.ended if startup.store == self._store}
        return await self._call(lambda: self._actual({resource.key for resource in self.wanted(config)}, ended))

    async def apply(self, step: Step) -> list[Credential]:
        """Apply a step. Tokens are written to secret files, and not shown to people."""
        await self._call(lambda: self._apply(step))
        return []

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)

    def bucket(self, slug: str) -> str:
        return self._settings.bucket.replace("{startup}", slug)

    def _token(self, name: str, permissions: list[str], startup: str = "") -> Resource:
        spec = {"permissions": sorted(permissions), "secret_kept": True, "status": "active"}
        return Resource(self.name, "token", name, spec, startup)

    def _secret_name(self, token: str) -> str:
        return secret_name(token, self._store)

    # ------------------------------------------------------------------ in a thread: the client's admin API is blocking

    def _actual(self, keys: set[Key], ended: set[str]) -> list[Resource]:
        self._check_alone()
        buckets = list(self._all_buckets())
        self._buckets = {bucket.name: bucket.id for bucket in buckets}
        self._ended = {bucket.name for bucket in buckets if bucket.name in ended and bucket.description == MARK}
        self._foreign = {bucket.name for bucket in buckets if bucket.description != MARK}
        found = [
            Resource(
                self.name,
                "bucket",
                bucket.name,
                {"retention_s": bucket.retention_rules[0].every_seconds if bucket.retention_rules else 0},
                is_ours=bucket.description == MARK,
            )
            for bucket in buckets
            if bucket.name not in self._ended
        ]
        tokens = self._actual_tokens({bucket.id: bucket.name for bucket in buckets})
        found += [token for token in tokens if token.key in keys or token.name != GATEWAY or not self._ended]
        return [resource for resource in found if resource.is_ours or resource.key in keys]

    def _actual_tokens(self, bucket_names: Mapping[str, str]) -> Iterable[Resource]:
        """Yield our tokens. One whose secret is in its file has its plain name; others are left from before."""
        self._tokens = {}
        found = []
        for authorization in self._client.authorizations_api().find_authorizations(org=self._settings.org):
            match = _DESCRIPTION.fullmatch(authorization.description or "")
            if match is None:
                continue
            name, print_ = match.groups()
            kept = bool(print_) and print_ == fingerprint(self._secret_files.read(self._secret_name(name)))
            rights = {_permission_text(one, bucket_names) for one in authorization.permissions}
            permissions = sorted(rights.difference(self._additional(name)))
            spec = {"permissions": permissions, "secret_kept": kept, "status": authorization.status}
            found.append((name, authorization.id, spec))
        for name, ident, spec in sorted(found, key=lambda one: not one[2]["secret_kept"]):  # the kept ones first
            is_stale = name in self._tokens
            self._tokens.setdefault(name, []).append(ident)
            startup = name.removeprefix(_READ) if name.startswith(_READ) else ""  # none: it is the gateway's
            yield Resource(self.name, "token", f"{name} {ident}" if is_stale else name, spec, startup)

    def _apply(self, step: Step) -> None:
        resource = step.resource
        match resource.kind, step.action:
            case "bucket", "create":
                rules = BucketRetentionRules(type="expire", every_seconds=resource.spec["retention_s"])
                made = self._client.buckets_api().create_bucket(
                    bucket_name=resource.name, retention_rules=rules, description=MARK, org=self._settings.org
                )
                self._buckets[resource.name] = made.id
            case "bucket", "update":
                self._change_retention(resource)
            case "bucket", "remove":
                _gone(self._client.buckets_api().delete_bucket, self._buckets[resource.name])
            case "token", "remove":
                self._remove_tokens(resource.name)
            case "token", _:
                self._make_token(resource)

    def _change_retention(self, resource: Resource) -> None:
        buckets = self._client.buckets_api()
        bucket = buckets.find_bucket_by_id(self._buckets[resource.name])
        seconds = resource.spec["retention_s"]
        rules = BucketRetentionRules(
            type="expire", every_seconds=seconds, shard_group_duration_seconds=_shard_group(seconds)
        )
        bucket.retention_rules = [rules]
        buckets.update_bucket(bucket)

    def _make_token(self, resource: Resource) -> None:
        """Create a token, keep it, and only then delete older ones, so that the gateway always has one."""
        api = self._client.authorizations_api()
        old = self._tokens.get(resource.name, [])
        texts = [*resource.spec["permissions"], *self._additional(resource.name)]
        permissions = [self._permission(text) for text in texts]
        wanted = Authorization(org_id=self._org_id(), permissions=permissions, description=f"{MARK}: {resource.name}")
        made = api.create_authorization(authorization=wanted)
        self._secret_files.write(self._secret_name(resource.name), made.token)
        made.description = f"{MARK}: {resource.name} #{fingerprint(made.token)}"
        api.update_authorization(made)
        for ident in old:
            _gone(api.delete_authorization, ident)
        self._tokens[resource.name] = [made.id]

    def _remove_tokens(self, name: str) -> None:
        plain, _, ident = name.partition(" ")
        for one in [ident] if ident else self._tokens.get(plain, []):
            _gone(self._client.authorizations_api().delete_authorization, one)
        if not ident:
            self._secret_files.forget(self._secret_name(plain))

    def _additional(self, token: str) -> list[str]:
        """Return what a token may do besides the wanted: the gateway's, everything in buckets of ended startups."""
        return _rights(sorted(self._ended)) if token == GATEWAY else []

    def _permission(self, text: str) -> Permission:
        action, bucket = text.split(" ", 1)
        place = PermissionResource(type="buckets", id=self._buckets[bucket], org_id=self._org_id())
        return Permission(action=action, resource=place)

    def _check_alone(self) -> None:
        """Check that no other store has the organisation: each would take the other's buckets for leftovers."""
        owner = self._owners.setdefault(self._org_id(), self.name)
        if owner != self.name:
            raise ProvisionError(
                f"{owner} and {self.name} are the same organisation of one InfluxDB: give each store its own, or "
                "move the startups of both to one store"
            )

    def _org_id(self) -> str:
        try:
            organizations = self._client.organizations_api().find_organizations(org=self._settings.org)
        except ApiException as error:
            if error.status != 404:
                raise
            raise ProvisionError(
                f"InfluxDB at {self._url} has no organisation {self._settings.org!r}: set "
                f"{store_setting(self._store)}.influxdb.org, or create it there"
            ) from None
        return str(organizations[0].id)

    def _all_buckets(self) -> Iterable[Any]:
        offset = 0
        while True:
            page = self._client.buckets_api().find_buckets(limit=_PAGE, offset=offset, org=self._settings.org).buckets
            yield from page
            if len(page) < _PAGE:
                return
            offset += _PAGE

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except ApiException as error:
            raise _rejected(self._url, error) from error
        except (HTTPError, OSError) as error:
            raise ServerUnreachable(f"no InfluxDB answers at {self._url}: {error}; is it running?") from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ProvisionError(
                f"the server at {self._url} does not answer as InfluxDB 2 does: check the address ({error})"
            ) from error


def read_token_name(slug: str) -> str:
    """Return the name of a startup's read token."""
    return f"{_READ}{slug}"


def server_name(store: str | None) -> str:
    """Return the name of a store's InfluxDB in plans. Slugs have no dots, so names of secret files are distinct."""
    return "influxdb" if store is None else f"influxdb.{store}"


def secret_name(token: str, store: str | None = None) -> str:
    """Return the name of a token's secret file."""
    return f"{server_name(store)}-{token}"


def _rights(buckets: Iterable[str]) -> list[str]:
    return [f"{action} {bucket}" for bucket in buckets for action in ("read", "write")]


def _shard_group(retention_s: int) -> int:
    """Return what InfluxDB chooses for a new bucket. On a change it keeps the old, and rejects one that is too long."""
    if 0 < retention_s < 2 * _DAY:
        return 3600
    return _DAY if 0 < retention_s <= 180 * _DAY else 7 * _DAY


def _gone(delete: Callable[[str], object], ident: str) -> None:
    """Delete something that may already be deleted."""
    try:
        delete(ident)
    except ApiException as error:
        if error.status != 404:
            raise


def _permission_text(permission: Any, bucket_names: Mapping[str, str]) -> str:
    place = permission.resource
    return f"{permission.action} {bucket_names.get(place.id, place.id) if place.type == 'buckets' else place.type}"


def _rejected(url: str, error: ApiException) -> ProvisionError:
    message = (error.message or error.reason or "").strip()
    if error.status in (401, 403):
        return AdminRejected(f"InfluxDB at {url} rejected the admin token ({error.status} {message}): check it")
    return ProvisionError(f"InfluxDB at {url} answered {error.status}: {message}")
