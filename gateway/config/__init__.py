"""Operators' YAML, checked, as one immutable Config. Errors carry file and line."""

from gateway.config.load import Loader, load, load_settings
from gateway.config.models import Config, Mqtt, Settings
from gateway.config.notations import Pointer
from gateway.config.startup_file import FieldRule, Quota, Startup, StartupFile, TimeRule, TopicRule

__all__ = [
    "Config",
    "FieldRule",
    "Loader",
    "Mqtt",
    "Pointer",
    "Quota",
    "Settings",
    "Startup",
    "StartupFile",
    "TimeRule",
    "TopicRule",
    "load",
    "load_settings",
]
