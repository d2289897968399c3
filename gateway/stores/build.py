"""Stores that a configuration names, put together."""

from __future__ import annotations

from gateway.computing import Computing
from gateway.config import Config, Settings
from gateway.config.credentials import influxdb_token
from gateway.state import private_files
from gateway.stores.by_startup import StoreByStartup
from gateway.stores.contract import Store
from gateway.stores.sqlite import SqliteStore

STORE = "store"


def make_store(config: Config) -> StoreByStartup:
    """Return the stores of the configuration, each startup in its own.

    Raises:
        SecretMissing: the token of one is missing.
    """
    settings, computing = config.settings, Computing()
    embedded = SqliteStore(config.state_dir / STORE, computing)
    stores = {
        name: embedded if settings.store_named(name).kind == "sqlite" else _influxdb(settings, name, computing)
        for name in (None, *settings.stores)
    }
    return StoreByStartup(stores, config.startups, computing)


def _influxdb(settings: Settings, name: str | None, computing: Computing) -> Store:
    from gateway.stores.influxdb import InfluxDBStore  # takes half a second to import

    def token() -> str:
        return influxdb_token(settings, name)

    return InfluxDBStore(settings.store_named(name).influxdb, token(), token, name, computing)


def forget_embedded(config: Config, slug: str) -> None:
    """Delete a startup's readings from the embedded store, if that is its store now. What it left there before it moved
    to another one stays: no later export has it."""
    if config.settings.store_named(config.by_slug[slug].store).kind != "sqlite":
        return
    for path in (config.state_dir / STORE).glob(f"{slug}.db*"):
        private_files.remove(path)
