"""Mosquitto: roles and clients of its dynamic security plugin, over `$CONTROL/dynamic-security/v1`.

Roles hold concrete topics rather than `%u` patterns, which Mosquitto 2.0 takes literally. Three kinds of accounts:

    {startup}.{device}   publishes its own topics, reads its own feedback
    {startup}            reads its own feeds, feedback and telemetry; writes nothing
    gateway              reads telemetry and what the broker reports of itself, writes feeds and feedback; cannot
                         administer; its password is in a secret file

A client that takes over the session of another client id receives what waits in it, whatever it may subscribe to
itself. So receiving is denied by default too, and each role names what it may receive.

What is ours has `MARK` as its description. Source: mosquitto's "Dynamic Security" documentation.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiomqtt

from gateway.config import Config, Startup
from gateway.errors import AdminRejected, ProvisionError, ServerUnreachable
from gateway.mqtt.broker import Broker
from gateway.mqtt.grants import SYS
from gateway.provision.plan import MARK, Credential, Key, Resource, Step
from gateway.provision.secret_files import SecretFiles
from gateway.topics import ROOT, Capture, Template, subscriptions

TOPIC = "$CONTROL/dynamic-security/v1"
GATEWAY_PASSWORD = "mqtt-gateway"  # noqa: S105  # the name of its file, not the password
ANSWER_WITHIN = 10.0
DEFAULTS: Mapping[str, bool] = {
    "publishClientSend": False,
    "publishClientReceive": False,
    "subscribe": False,
    "unsubscribe": True,
}


class MosquittoServer:
    """An implementation of `plan.Server` for Mosquitto."""

    name = "mosquitto"

    def __init__(
        self,
        broker: Broker,
        username: str,
        password: str,
        secret_files: SecretFiles,
        *,
        gateway_user: str = "gateway",
    ) -> None:
        self._secret_files = secret_files
        self._broker = broker
        self._gateway_user = gateway_user

        def sign_in(user: str, secret: str) -> aiomqtt.Client:
            return aiomqtt.Client(broker.host, broker.port, username=user, password=secret, tls_context=broker.tls)

        self._sign_in = sign_in
        self._client = sign_in(username, password)
        self._connected = False

    def wanted(self, config: Config) -> list[Resource]:
        """Return roles first, since clients name them; the defaults last: roles must first say who may receive."""
        resources = []
        blocked = {account(startup.slug, device) for startup in config.startups for device in startup.blocked}
        for role, acls, startup in _roles(config, self._gateway_user):
            resources.append(Resource(self.name, "role", role, {"acls": sorted(acls)}, startup))
        for role, _, startup in _roles(config, self._gateway_user):
            spec: dict[str, Any] = {"roles": [role], "blocked": role in blocked}
            if role == self._gateway_user:
                spec["secret_kept"] = True
            needs = (Key(self.name, "role", role),)
            resources.append(Resource(self.name, "client", role, spec, startup, needs=needs))
        return [*resources, Resource(self.name, "default access", "defaults", dict(DEFAULTS))]

    async def actual(self, config: Config) -> list[Resource]:
        """Return everything of ours, and whatever has a wanted name."""
        names = {resource.key for resource in self.wanted(config)}
        answers = await self._ask(
            [
                {"command": "getDefaultACLAccess"},
                {"command": "listRoles", "verbose": True},
                {"command": "listClients", "verbose": True},
            ]
        )
        access, roles, clients = (answer["data"] for answer in answers)
        allowed = {one["acltype"]: one["allow"] for one in access["acls"]}
        found = [Resource(self.name, "default access", "defaults", {name: allowed[name] for name in DEFAULTS})]
        found += [self._actual_role(role) for role in roles["roles"]]
        kept = await self._is_kept()
        found += [self._actual_client(client, kept) for client in clients["clients"]]
        return [resource for resource in found if resource.is_ours or resource.key in names]

    async def apply(self, step: Step) -> list[Credential]:
        """Apply a step; a new client gets a password, which is shown once."""
        match step.resource.kind, step.action:
            case "default access", _:
                acls = [{"acltype": name, "allow": allow} for name, allow in step.resource.spec.items()]
                await self._ask([{"command": "setDefaultACLAccess", "acls": acls}])
            case "role", _:
                await self._ask([_role_command(step)])
            case "client", "create":
                return await self._create_client(step.resource)
            case "client", "update":
                return await self._update_client(step.resource)
            case "client", "remove":
                await self._ask([{"command": "deleteClient", "username": step.resource.name}])
        return []

    async def new_device_password(self, startup: str, device: str) -> Credential:
        """Give a device's account a new password; a client connected with the old one is disconnected."""
        return await self._new_password(startup, account(startup, device))

    async def _new_password(self, startup: str, username: str) -> Credential:
        password = secrets.token_urlsafe(18)
        await self._ask([{"command": "setClientPassword", "username": username, "password": password}])
        return Credential(startup, "MQTT account", username, password)

    async def close(self) -> None:
        if self._connected:
            self._connected = False
            await self._client.__aexit__(None, None, None)

    async def _create_client(self, resource: Resource) -> list[Credential]:
        password = secrets.token_urlsafe(18)
        await self._ask(
            [
                {
                    "command": "createClient",
                    "username": resource.name,
                    "password": password,
                    "textdescription": MARK,
                    "roles": [{"rolename": role} for role in resource.spec["roles"]],
                },
                *([_blocking(resource)] if resource.spec["blocked"] else []),
            ]
        )
        return await self._hand_out(resource, password)

    async def _update_client(self, resource: Resource) -> list[Credential]:
        roles = [{"rolename": role} for role in resource.spec["roles"]]
        modified = {"command": "modifyClient", "username": resource.name, "roles": roles}
        await self._ask([modified, _blocking(resource)])
        if resource.name != self._gateway_user or await self._is_kept():
            return []
        renewed = await self._new_password(resource.startup, resource.name)
        return await self._hand_out(resource, renewed.secret)

    async def _hand_out(self, resource: Resource, password: str) -> list[Credential]:
        """Keep the gateway's own password for it; return any other, to be shown once."""
        if resource.name == self._gateway_user:
            await asyncio.to_thread(self._secret_files.write, GATEWAY_PASSWORD, password)
            return []
        return [Credential(resource.startup, "MQTT account", resource.name, password)]

    async def _is_kept(self) -> bool:
        """Return whether the broker accepts the password that is kept for the gateway."""
        password = await asyncio.to_thread(self._secret_files.read, GATEWAY_PASSWORD)
        if password is None:
            return False
        try:
            async with self._sign_in(self._gateway_user, password):
                return True
        except aiomqtt.MqttCodeError:
            return False

    def _actual_client(self, client: Mapping[str, Any], kept: bool) -> Resource:
        name = client["username"]
        spec: dict[str, Any] = {
            "roles": [role["rolename"] for role in client.get("roles", [])],
            "blocked": bool(client.get("disabled")),
        }
        if name == self._gateway_user:
            spec["secret_kept"] = kept
        return Resource(self.name, "client", name, spec, self._startup_of(name), is_ours=_is_ours(client))

    def _actual_role(self, role: Mapping[str, Any]) -> Resource:
        name = role["rolename"]
        acls = sorted(f"{acl['acltype']} {acl['topic']}" for acl in role.get("acls", []) if acl.get("allow"))
        return Resource(self.name, "role", name, {"acls": acls}, self._startup_of(name), is_ours=_is_ours(role))

    def _startup_of(self, name: str) -> str:
        """Return the startup of an account or role, by its name; empty for the gateway's."""
        return "" if name == self._gateway_user else name.partition(".")[0]

    async def _ask(self, commands: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Send commands and wait for their answers.

        Raises:
            ServerUnreachable: nobody answers.
            AdminRejected: the broker rejects the admin's credentials.
            ProvisionError: any other error.
        """
        try:
            await self._connect()
            await self._client.publish(TOPIC, json.dumps({"commands": commands}), qos=1)
            async with asyncio.timeout(ANSWER_WITHIN):
                message = await anext(self._client.messages)
        except aiomqtt.MqttCodeError as error:
            raise AdminRejected(
                f"Mosquitto at {self._broker} rejected the admin: {error}; check the admin's name and password"
            ) from error
        except aiomqtt.MqttError as error:
            raise ServerUnreachable(f"no Mosquitto answers at {self._broker}: {error}; is it running?") from error
        except TimeoutError:
            raise ProvisionError(
                f"Mosquitto at {self._broker} does not answer on {TOPIC}: is the dynamic security plugin loaded, and "
                "may this account administer it?"
            ) from None
        try:
            answers: list[dict[str, Any]] = json.loads(str(message.payload, "utf-8"))["responses"]
            errors = [answer.get("error") for _, answer in zip(commands, answers, strict=True)]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ProvisionError(
                f"Mosquitto at {self._broker} answers on {TOPIC} in an unknown form: {error}"
            ) from error
        for command, error_text in zip(commands, errors, strict=True):
            if error_text:
                raise ProvisionError(f"Mosquitto rejected {command['command']}: {error_text}")
        return answers

    async def _connect(self) -> None:
        if not self._connected:
            await self._client.__aenter__()
            self._connected = True
            await self._client.subscribe(f"{TOPIC}/response", qos=1)


def account(startup: str, device: str) -> str:
    """Return a device's account. Slugs have no dots, so that accounts of two startups are never the same."""
    return f"{startup}.{device}"


def _roles(config: Config, gateway_user: str) -> Iterable[tuple[str, set[str], str]]:
    """Yield each role with its ACLs and startup; a client of the same name has it."""
    yield gateway_user, set(_gateway_acls(config)), ""
    for startup in config.startups:
        yield startup.slug, set(_startup_acls(startup)), startup.slug
        for device in startup.devices:
            yield account(startup.slug, device), set(_device_acls(startup, device)), startup.slug


def _gateway_acls(config: Config) -> Iterable[str]:
    """Yield access to all topics of the configuration. There are no shared subscriptions: Mosquitto forgets them."""
    for name in subscriptions(rule.template for startup in config.startups for rule in startup.topics.values()):
        yield f"subscribePattern {name}"
        yield f"publishClientReceive {name}"
    yield f"subscribePattern {SYS}"
    yield f"publishClientReceive {SYS}"
    yield "publishClientSend feeds/#"
    yield "publishClientSend feedback/#"


def _startup_acls(startup: Startup) -> Iterable[str]:
    outside = [rule.template.filter for rule in startup.topics.values() if rule.template.levels[0] != ROOT]
    for name in (*(f"{root}/{startup.slug}/#" for root in ("feeds", "feedback", ROOT)), *outside):
        yield f"subscribePattern {name}"
        yield f"publishClientReceive {name}"


def _device_acls(startup: Startup, device: str) -> Iterable[str]:
    """Yield access to all below its own name under testbed/, so that a wrong topic is answered by feedback."""
    yield f"publishClientSend {ROOT}/{startup.slug}/{device}/#"
    yield f"subscribeLiteral feedback/{startup.slug}/{device}"
    yield f"publishClientReceive feedback/{startup.slug}/{device}"
    for rule in startup.topics.values():
        yield f"publishClientSend {_of_device(rule.template, device)}"


def _of_device(template: Template, device: str) -> str:
    return "/".join(
        (device if level.name == "device" else "+") if isinstance(level, Capture) else level
        for level in template.levels
    )


def _role_command(step: Step) -> dict[str, Any]:
    role = step.resource.name
    if step.action == "remove":
        return {"command": "deleteRole", "rolename": role}
    command = "createRole" if step.action == "create" else "modifyRole"
    pairs = (text.split(" ", 1) for text in step.resource.spec["acls"])
    acls = [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, topic in pairs]
    return {"command": command, "rolename": role, "textdescription": MARK, "acls": acls}


def _blocking(client: Resource) -> dict[str, Any]:
    """Return the command that blocks a client, which ends its connections, or lets it in again."""
    return {"command": "disableClient" if client.spec["blocked"] else "enableClient", "username": client.name}


def _is_ours(found: Mapping[str, Any]) -> bool:
    return found.get("textdescription") == MARK
