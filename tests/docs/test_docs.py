"""The documentation names what the product has, and nothing else: commands, routes, settings, metrics, tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from pydantic import BaseModel
from ruamel.yaml import YAML

from gateway.cli import app
from gateway.config import Settings, StartupFile
from gateway.config.startup_file import REJECTIONS
from gateway.errors import GatewayError
from gateway.metrics import Metrics, exposition
from gateway.model import Code, Counts, Reason, Rejection
from gateway.mqtt.broker_watch import FIGURES
from gateway.provision.settings import GrafanaAdmin, InfluxDBAdmin, MosquittoAdmin, ProvisionSettings, StoreAdmin
from tests.builders import database
from tests.docs.blocks import MARKED, ROOT, Block, blocks, documents, name

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EVERYTHING = "\n".join(path.read_text(encoding="utf-8") for path in documents())
NAMED_VARIABLES = ("GATEWAY_TOKEN_", "GATEWAY_INFLUXDB_TOKEN_", "GATEWAY_PROVISION_INFLUXDB_TOKEN_")
KINDS = {
    *("run", "not run", "prints", "background prints", "file", "wrong file"),
    *("yaml", "try", "try retained", "try blocked", "try types", "answers", "refused by the store"),
}


def doc(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


# ------------------------------------------------------------------ blocks


@pytest.mark.parametrize("document", documents(), ids=name)
def test_every_block_says_how_it_is_tested(document: Path) -> None:
    """No command, YAML, JSON or Python stands in a document without a marker that some test knows."""
    several = blocks(document)
    unmarked = [str(block) for block in several if block.language in MARKED and not block.marker]
    assert unmarked == []
    unknown = [str(block) for block in several if block.marker and not _is_known(block)]
    assert unknown == []
    silent = [str(block) for block in several if block.kind == "not run" and not block.argument]
    assert silent == []


def _is_known(block: Block) -> bool:
    return block.kind in KINDS or re.fullmatch(r"try (padded to|after|with the end) [\d-]+", block.kind) is not None


def test_python_in_the_documentation_is_python() -> None:
    """Each Python example can at least be read by Python."""
    for document in documents():
        for block in blocks(document):
            if block.language == "python":
                ast.parse(block.text, filename=str(block))


# ------------------------------------------------------------------ commands


def command_names() -> dict[str, click.Command]:
    """Return all commands by their full name, `dead-letters list` among them."""
    return dict(_commands(typer.main.get_command(app), ""))


def _commands(command: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for word, inner in command.commands.items():
        full = f"{prefix}{word}"
        if hasattr(inner, "commands"):
            yield from _commands(inner, f"{full} ")
        else:
            yield full, inner


def test_the_readme_lists_every_command_and_no_other() -> None:
    """The README's table of commands is the command line's own list."""
    listed = re.findall(r"^\| `gateway ([a-z -]+)` \|", README, re.MULTILINE)
    assert sorted(listed) == sorted(command_names())


def test_commands_and_options_that_are_named_exist() -> None:
    """Every `gateway …` in the documentation is a command, and has the options that stand behind it."""
    known = command_names()
    groups = {full.split()[0] for full in known if " " in full}
    wrong = []
    for line in re.findall(r"(?:`|^\$ |^|/)gateway ([a-z][^`\n]*)", "\n".join(_code()), re.MULTILINE):
        words = line.split()
        full = " ".join(words[:2]) if words[0] in groups else words[0]
        if full in groups:
            continue
        options = {option for parameter in known[full].params for option in parameter.opts} if full in known else set()
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} - {"--help"}
        if full not in known or used - options:
            wrong.append(line)
    assert wrong == []


def _code() -> Iterator[str]:
    """Yield all code: blocks of commands, and what stands between backticks."""
    for document in documents():
        for block in blocks(document):
            if block.language in ("sh", "console", "ini"):
                yield block.text
        yield from (f"`{code}`" for code in re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8")))


# ------------------------------------------------------------------ HTTP, metrics, environment


def test_every_route_is_documented() -> None:
    """Each route of the OpenAPI schema, and the WebSocket, has a section in docs/http-api.md and a row in the README;
    no other is named there."""
    from gateway.api.routes import create_api

    schema = create_api(_no_services()).openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in schema.items() for method in methods}
    sections = set(re.findall(r"^### `([A-Z]+ /[^`]*)`$", doc("http-api.md"), re.MULTILINE))
    assert sections == routes | {"GET /v1/startups/{startup}/live/ws"}
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", README, re.MULTILINE)) == routes


def _no_services() -> Any:
    """Stand for the services: only the schema of the API is read."""
    return None


def test_every_metric_is_documented_and_no_other() -> None:
    """The operator's guide names each metric of the gateway; every metric that a document names exists."""
    metrics = Metrics()
    metrics.broker |= dict.fromkeys(FIGURES.values(), 1.0)
    metrics.rejected([Rejection("acme", "d", "t", b"", 0, (Reason(Code.EMPTY, "payload", "a", "b"),))])
    parts = dict.fromkeys(("broker_ok", "disk_ok", "journal_ok", "workers_ok"), 1.0)
    startups = {name: {"acme": 1.0} for name in ("session_ok", "store_ok")}
    text = b"".join(exposition(metrics.families(), {"acme": Counts()}, parts, startups)).decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE gateway_")}
    names = {name for name in names if not name.endswith("_created")}
    documented = set(re.findall(r"^\| `(gateway_\w+)", doc("operators-guide.md"), re.MULTILINE))
    assert documented == names
    used = set(re.findall(r"\b(gateway_[a-z_]+)\b", EVERYTHING)) - {REJECTIONS, "gateway_user"}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} <= names


def test_environment_variables_exist() -> None:
    """Every GATEWAY_… variable in the documentation is one that the gateway reads."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    for variable in set(re.findall(r"\bGATEWAY_[A-Z_]+\b", EVERYTHING)):
        known = variable.startswith(NAMED_VARIABLES) or f'"{variable}"' in source
        assert known, variable


# ------------------------------------------------------------------ settings


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of a model's settings."""
    for field_name, field in model.model_fields.items():
        full = prefix + (field.alias or field_name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{full}.")
        else:
            yield full


def test_the_sample_configuration_has_every_setting_at_its_default() -> None:
    """config/gateway.yaml, with the # before its settings taken away, has each setting, at the value it has without
    the file."""
    text = (ROOT / "config" / "gateway.yaml").read_text(encoding="utf-8")
    uncommented = YAML(typ="safe").load(re.sub(r"^# (?=( *)[a-z_]+:(\s|$))", "", text, flags=re.MULTILINE))
    assert sorted(_leaves(uncommented)) == sorted(settings(Settings))
    assert Settings.model_validate(uncommented) == Settings()


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_every_setting_of_a_startup_is_in_the_operators_guide() -> None:
    """The operator's guide has a row for each setting of a startup's file, and for no other."""
    section = doc("operators-guide.md").partition("## A startup's file")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|", section, re.MULTILINE)
    assert rows == [*_startup_settings()]


def _startup_settings() -> Iterator[str]:
    from gateway.config import FieldRule, TimeRule, TopicRule

    for setting in settings(StartupFile):
        if setting != "topics":
            yield setting
    inner: dict[str, type[BaseModel]] = {"time": TimeRule, "fields": FieldRule}
    for field_name in TopicRule.model_fields:
        parts = inner.get(field_name)
        yield from [f"{field_name}.{one}" for one in settings(parts)] if parts else [field_name]


def test_every_setting_of_provisioning_is_documented() -> None:
    """docs/provisioning.md has a row for each setting of provision.yaml, and for no other."""
    text = doc("provisioning.md")
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \|", text.partition("## provision.yaml")[2].partition("\n## ")[0], re.MULTILINE
    )
    parts: dict[str, type[BaseModel]] = {
        "mosquitto": MosquittoAdmin,
        "influxdb": InfluxDBAdmin,
        "stores": StoreAdmin,
        "grafana": GrafanaAdmin,
    }
    wanted = [name for name in ProvisionSettings.model_fields if name not in parts]
    assert rows == [*wanted, *(name for part, model in parts.items() for name in settings(model, f"{part}."))]


# ------------------------------------------------------------------ the README, the architecture, the decisions


def test_the_readme_begins_with_what_matters() -> None:
    """Its first forty lines have a picture of the flow, the two commands, what one sees, and what is promised."""
    beginning = "\n".join(README.splitlines()[:40])
    for part in ("```text\n device", "make demo", "make test", "docs/images/startup-page.png", "What is promised"):
        assert part in beginning
    assert len(re.findall(r"^\d\. ", beginning, re.MULTILINE)) == 7


def test_every_dependency_has_a_row_in_the_readme() -> None:
    """The README's table of dependencies is pyproject.toml's list, each with its extra."""
    extras = PROJECT["project"]["optional-dependencies"]
    wanted: dict[str, set[str]] = {_package(one): set() for one in PROJECT["project"]["dependencies"]}
    for extra, several in extras.items():
        for one in several:
            wanted.setdefault(_package(one), set()).add(extra)
    section = README.partition("## Dependencies")[2]
    rows = re.findall(r"^\| `([\w.-]+)`(?: \(extras? ([^)]+)\))? \|", section, re.MULTILINE)
    assert {package: set(re.findall(r"`(\w+)`", named)) for package, named in rows} == wanted
    groups = PROJECT["dependency-groups"].values()
    for tool in (tool for group in groups for tool in group if isinstance(tool, str)):
        assert f"`{tool}`" in section


def _package(requirement: str) -> str:
    return re.split(r"[\[><=]", requirement)[0]


def test_the_layers_are_those_that_are_checked() -> None:
    """The layers in docs/architecture.md are the ones of the import contract."""
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    (shown,) = re.findall(r"```text\n(__main__\n.*?)```", doc("architecture.md"), re.DOTALL)
    assert shown.splitlines() == layers


def test_every_package_has_a_line_in_the_tree() -> None:
    """The tree in docs/architecture.md has one line for each package of the gateway, and unit tests mirror it."""
    packages = {path.parent.name for path in (ROOT / "gateway").glob("*/__init__.py")}
    (tree,) = re.findall(r"```text\ngateway/\n(.*?)```", doc("architecture.md"), re.DOTALL)
    assert re.findall(r"^  (\w+)/  +\S", tree, re.MULTILINE) == [
        line.split("/")[0].strip() for line in tree.splitlines()
    ]
    assert set(re.findall(r"^  (\w+)/", tree, re.MULTILINE)) == packages
    assert {path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir()} >= packages


async def test_the_tables_of_the_state_database_are_documented(tmp_path: Path) -> None:
    """docs/architecture.md has a row for each table of the state database, with all its columns."""
    async with database(tmp_path / "gateway.db") as state:
        found = await state.read(
            lambda connection: connection.execute(
                "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c "
                "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
            ).fetchall()
        )
    tables: dict[str, list[str]] = {}
    for table, column in found:
        tables.setdefault(table, []).append(column)
    section = doc("architecture.md").partition("## The state database")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
    assert {table: re.findall(r"`(\w+)`", columns) for table, columns in rows} == tables


def test_tests_that_are_named_exist() -> None:
    """Every test that a document points to is there."""
    for path, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", EVERYTHING):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{path}::{test}"


def test_every_promise_names_a_test() -> None:
    """Each promise of docs/guarantees.md says which test shows it."""
    promises = re.split(r"^## \d\. ", doc("guarantees.md"), flags=re.MULTILINE)[1:]
    assert len(promises) == 7
    assert all("`tests/" in promise for promise in promises)


def test_errors_that_are_named_exist() -> None:
    """Every exception that a document names is in the gateway's tree."""
    known = {one.__name__ for one in _subclasses(GatewayError)}
    named = set(re.findall(r"`((?:Store|State|Broker|Config)[A-Z]\w+)`", EVERYTHING)) - {"StateDirectory"}
    assert named <= known


def _subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _subclasses(one)


@pytest.mark.parametrize("record", sorted((ROOT / "docs" / "decisions").glob("0*.md")), ids=name)
def test_a_decision_is_dated_and_short(record: Path) -> None:
    """A decision says when it was taken, what was decided and what was not, on a page."""
    text = record.read_text(encoding="utf-8")
    assert re.match(r"# \d{4} .+\n\n\d{4}-\d\d-\d\d\n", text)
    assert "## Decided" in text
    assert "## Not decided" in text
    assert len(text.splitlines()) <= 60


def test_the_experiments_run() -> None:
    """Each experiment behind a decision still runs."""
    for script in sorted((ROOT / "docs" / "decisions" / "experiments").glob("*.py")):
        done = subprocess.run([sys.executable, script, "1"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "ratio" in done.stdout


# ------------------------------------------------------------------ links


@pytest.mark.parametrize("document", documents(), ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link and image is a file of the repository, and every #part a heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_blocks(document)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, part = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (part and part not in _anchors(file)):
            broken.append(target)
    assert broken == []


def _without_blocks(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def _anchors(document: Path) -> set[str]:
    """Return the names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", _without_blocks(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_document_is_reachable_from_the_readme() -> None:
    """Each document is reached from the README, directly or through another."""
    found: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        document = todo.pop()
        if document in found:
            continue
        found.add(document)
        if document.is_dir():
            todo += document.glob("*.md")
            continue
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", _without_blocks(document)):
            file = (document.parent / target).resolve()
            if file.suffix == ".md" or file.is_dir():
                todo.append(file)
    assert set(documents()) <= found
