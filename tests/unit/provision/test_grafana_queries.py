"""Every query of the generated dashboards and alert rules, on the sample configuration: a parser of the InfluxQL that
they use checks that it names only what exists, and a real InfluxDB answers it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from gateway.config import Startup
from gateway.config.startup_file import REJECTIONS
from gateway.provision import grafana_influxql as influxql
from gateway.provision.alerts import alert_rules
from gateway.provision.dashboard_json import generate_all
from gateway.timestamps import NS
from tests.builders import rule, samples, startup
from tests.servers.influxd import Influxd
from tests.servers.processes import need

_TOKEN = re.compile(
    r"""\s*(?:(?P<name>"[a-zA-Z][\w]*")|(?P<text>'[^'\\]*')|(?P<regex>/\^\$\{\w+:regex\}\$/)|(?P<number>\d+s?)"""
    r"""|(?P<macro>\$timeFilter|\$__interval)|(?P<word>[A-Za-z]+)|(?P<mark>=~|[(),=*>-]))"""
)


class Token(NamedTuple):
    kind: str
    text: str


@dataclass(frozen=True)
class Schema:
    """Names that a statement may use, and the dashboard's variables."""

    measurements: Mapping[str, tuple[set[str], set[str]]]
    variables: set[str]


class BadQuery(Exception):
    """Not in the subset, or a name that does not exist."""


class Parser:
    """Recursive descent over

    SELECT column, … FROM source, … [WHERE condition AND …] [GROUP BY dimension, … [fill(none)]]
        [ORDER BY time DESC] [LIMIT n]
    SHOW TAG VALUES [FROM name] WITH KEY = name

    where a source is a measurement or a bracketed SELECT.
    """

    def __init__(self, query: str, schema: Schema) -> None:
        self._schema = schema
        self._tokens = list(_tokens(query))

    def statement(self) -> None:
        if self._peek() == Token("word", "SHOW"):
            self._show()
        else:
            self._select()
        if self._tokens:
            raise BadQuery(f"expected the end; got {self._tokens[0].text}")

    def _select(self) -> tuple[set[str], set[str]]:
        """The columns that it answers with, and the tags that it groups by."""
        self._words("SELECT")
        columns = self._listed(self._column)
        self._words("FROM")
        sources = self._listed(self._source)
        fields = set().union(*(one[0] for one in sources))
        tags = set().union(*(one[1] for one in sources))
        for name, _, is_call in columns:
            if name not in (fields if is_call else fields | tags):
                raise BadQuery(f"no field {name}")
        if self._take(Token("word", "WHERE")):
            self._condition(tags)
            while self._take(Token("word", "AND")):
                self._condition(tags)
        grouped = self._group(tags)
        if self._take(Token("word", "ORDER")):
            self._words("BY", "time", "DESC")
        if self._take(Token("word", "LIMIT")):
            self._next("number")
        return {alias or name for name, alias, _ in columns}, grouped

    def _column(self) -> tuple[str, str, bool]:
        is_call = self._peek().kind == "word"
        if is_call:
            call = self._next("word")
            if call not in ("mean", "last", "sum", "count"):
                raise BadQuery(f"no function {call}")
            self._mark("(")
        name = self._name()
        if is_call:
            self._mark(")")
        if self._take(Token("mark", "*")):
            self._next("number")
        alias = self._name() if self._take(Token("word", "AS")) else ""
        return name, alias, is_call

    def _source(self) -> tuple[set[str], set[str]]:
        if self._take(Token("mark", "(")):
            inner = self._select()
            self._mark(")")
            return inner
        return self._measurement()

    def _measurement(self) -> tuple[set[str], set[str]]:
        name = self._name()
        if name not in self._schema.measurements:
            raise BadQuery(f"no measurement {name}")
        return self._schema.measurements[name]

    def _condition(self, tags: set[str]) -> None:
        if self._take(Token("macro", "$timeFilter")):
            return
        if self._take(Token("word", "time")):
            self._mark(">")
            self._words("now")
            self._mark("(")
            self._mark(")")
            self._mark("-")
            self._next("number")
            return
        name = self._name()
        if name not in tags:
            raise BadQuery(f"no tag {name}")
        if self._take(Token("mark", "=")):
            self._next("text")
            return
        self._mark("=~")
        variable = self._next("regex")[4:-9]
        if variable not in self._schema.variables or variable != name:
            raise BadQuery(f"no variable {variable} for {name}")

    def _group(self, tags: set[str]) -> set[str]:
        if not self._take(Token("word", "GROUP")):
            return set()
        self._words("BY")
        names = set(self._listed(self._dimension)) - {""}
        if not names <= tags:
            raise BadQuery(f"no tag {names - tags}")
        if self._take(Token("word", "fill")):
            self._mark("(")
            self._words("none")
            self._mark(")")
        return names

    def _dimension(self) -> str:
        if not self._take(Token("word", "time")):
            return self._name()
        self._mark("(")
        self._next("macro")
        self._mark(")")
        return ""

    def _show(self) -> None:
        self._words("SHOW", "TAG", "VALUES")
        several = [self._measurement()] if self._take(Token("word", "FROM")) else self._schema.measurements.values()
        self._words("WITH", "KEY")
        self._mark("=")
        name = self._name()
        if not any(name in tags for _, tags in several):
            raise BadQuery(f"no tag {name}")

    def _listed(self, one: Any) -> list[Any]:
        found = [one()]
        while self._take(Token("mark", ",")):
            found.append(one())
        return found

    def _peek(self) -> Token:
        return self._tokens[0] if self._tokens else Token("end", "the end")

    def _take(self, token: Token) -> bool:
        if self._peek() != token:
            return False
        self._tokens.pop(0)
        return True

    def _next(self, kind: str) -> str:
        token = self._peek()
        if token.kind != kind:
            raise BadQuery(f"expected a {kind}; got {token.text}")
        return self._tokens.pop(0).text

    def _name(self) -> str:
        return self._next("name")[1:-1]

    def _words(self, *texts: str) -> None:
        for text in texts:
            if not self._take(Token("word", text)):
                raise BadQuery(f"expected {text}; got {self._peek().text}")

    def _mark(self, text: str) -> None:
        if not self._take(Token("mark", text)):
            raise BadQuery(f"expected {text}; got {self._peek().text}")


def _tokens(query: str) -> Iterator[Token]:
    at = 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None:
            raise BadQuery(f"expected a token at {query[at:]!r}")
        at = match.end()
        yield next(Token(kind, text) for kind, text in match.groupdict().items() if text is not None)


def measurements(one: Startup) -> dict[str, tuple[set[str], set[str]]]:
    """Fields and tags by measurement, and what the gateway writes of rejections."""
    found = {
        name: (set(each.fields), {"device", *each.template.captures, *each.tags}) for name, each in one.topics.items()
    }
    return found | {REJECTIONS: ({"count"}, {"device", "code", "measurement"})}


def queries(one: Startup) -> Iterator[tuple[str, str, set[str]]]:
    """Every query of a startup: where it stands, its text, and the variables that it may use."""
    for model in generate_all(one):
        variables = {variable["name"] for variable in model["templating"]["list"]}
        for variable in model["templating"]["list"]:
            yield f"{model['uid']} ${variable['name']}", variable["query"]["query"], set()
        for panel in model["panels"]:
            for target in panel["targets"]:
                yield f"{model['uid']} {panel['title']}", target["query"], variables
    for each in alert_rules(one):
        yield each["uid"], each["data"][0]["model"]["query"], set()


def check(one: Startup) -> int:
    """Every query parses and names only what exists; how many there are."""
    count = 0
    for place, query, variables in queries(one):
        try:
            Parser(query, Schema(measurements(one), variables)).statement()
        except BadQuery as error:
            raise AssertionError(f"{place}: {error}\n{query}") from error
        count += 1
    return count


OPTIONAL = {"a": {"type": "float", "required": False}, "b": {"type": "string", "required": False}}
MIXED = {"topic": "testbed/odd/{site}/{device}/x", "fields": OPTIONAL, "tags": {"interval": "/i"}}
ODD = startup("odd-one", {"Mixed_Case": MIXED})


@pytest.mark.parametrize("one", [*samples().startups, ODD], ids=lambda one: one.slug)
def test_queries_parse_and_name_only_what_exists(one: Startup) -> None:
    """So that no panel of a generated dashboard is empty for a reason of its own."""
    assert check(one) > 10


@pytest.mark.parametrize(
    "query",
    [
        'SELECT mean("pressure") FROM "climate"',
        'SELECT mean("device") FROM "climate"',
        'SELECT mean("value") FROM "weather"',
        'SELECT mean("value") FROM "climate" WHERE "room" =~ /^${room:regex}$/',
        'SELECT mean("value") FROM "climate" WHERE "device" =~ /^${other:regex}$/',
        'SELECT mean("value") FROM "climate" WHERE "device" =~ /^${device:regex}$/ GROUP BY "room"',
        'SELECT mean("value") FROM "climate" GROUP BY time(5m)',
        'SELECT sum("n") FROM (SELECT count("value") AS "m" FROM "climate") GROUP BY "device"',
        'SELECT mean("value") FROM "climate"; DROP MEASUREMENT "climate"',
        'SHOW TAG VALUES FROM "climate" WITH KEY = "value"',
    ],
)
def test_the_checker_finds_mistakes(query: str) -> None:
    """A check that passes everything would be none."""
    with pytest.raises(BadQuery):
        Parser(query, Schema(measurements(startup()), {"device"})).statement()


# ------------------------------------------------------------------ against InfluxDB


def filled_in(query: str, now_ns: int, back_s: int = 86_400) -> str:
    """What Grafana makes of a query: the time range in ms, an interval, `.*` for all of a variable."""
    start, stop = (now_ns - back_s * NS) // 10**6, now_ns // 10**6
    query = query.replace("$timeFilter", f"time >= {start}ms and time <= {stop}ms").replace("$__interval", "1m")
    return re.sub(r"\$\{\w+:regex\}", ".*", query)


async def post(http: aiohttp.ClientSession, url: str, **sent: Any) -> Any:
    async with http.post(url, **sent) as answer:
        text = await answer.text()
        assert answer.status < 300, text
        return await answer.json(content_type=None) if text else None


async def ask(http: aiohttp.ClientSession, influxd: Influxd, query: str) -> list[dict[str, Any]]:
    """The series of the one statement."""
    answer = await post(http, f"{influxd.url}/query", params={"db": "b", "epoch": "ms"}, data={"q": query})
    (result,) = answer["results"]
    assert "error" not in result, f"{result['error']}\n{query}"
    return list(result.get("series", []))


def line(measurement: str, fields: Mapping[str, Any], tags: str, at_ns: int) -> str:
    values = {"float": "1.5", "int": "2i", "bool": "true", "string": '"on"'}
    text = ",".join(f"{name}={values[each.type]}" for name, each in fields.items())
    return f"{measurement},{tags} {text} {at_ns}"


def points(one: Startup, now_ns: int) -> str:
    """A point a measurement one and two minutes ago, and one rejection."""
    lines = [f"{REJECTIONS},device=d-1,code=out_of_range,measurement=x count=1i {now_ns - 60 * NS}"]
    for name, each in one.topics.items():
        tags = {"device": "d-1"} | dict.fromkeys((*each.template.captures, *each.tags), "x") | {"device": "d-1"}
        pairs = ",".join(f"{key}={value}" for key, value in tags.items())
        lines += [line(name, each.fields, pairs, now_ns - minutes * 60 * NS) for minutes in (1, 2)]
    return "\n".join(lines)


@pytest.mark.parametrize("one", [*samples().startups, ODD], ids=lambda one: one.slug)
async def test_influxdb_answers_every_query(one: Startup, tmp_path: Path) -> None:
    """With data where there is some: all but the rejections of single measurements."""
    need("influxd")
    now_ns = time.time_ns()
    async with Influxd(tmp_path) as influxd, aiohttp.ClientSession() as http:
        await post(http, f"{influxd.url}/query", data={"q": "CREATE DATABASE b"})
        await post(http, f"{influxd.url}/write", params={"db": "b"}, data=points(one, now_ns))
        for place, query, _ in queries(one):
            found = await ask(http, influxd, filled_in(query, now_ns))
            assert found or '"measurement" = \'' in query, f"{place}: {query}"
            if "LIMIT 1" in query:
                assert [len(series["values"]) for series in found] == [1], place


async def test_a_device_without_messages_for_long_enough_is_silent(tmp_path: Path) -> None:
    """Below the threshold is who was seen and has stopped: not who sends, nor who was never seen."""
    need("influxd")
    now_ns = time.time_ns()
    both = rule(OPTIONAL)
    first = rule({"a": {"type": "float"}, "b": {"type": "string", "required": False}})
    lines = [
        *(f'm,device=sends a=1,b="x" {now_ns - minute * 60 * NS}' for minute in range(120)),
        *(f'm,device=stopped a=1,b="x" {now_ns - minute * 60 * NS}' for minute in range(20, 120)),
        f'm,device=only-b b="x" {now_ns - 60 * NS}',
        f'm,device=retired a=1,b="x" {now_ns - 8 * 86_400 * NS}',
    ]
    async with Influxd(tmp_path) as influxd, aiohttp.ClientSession() as http:
        await post(http, f"{influxd.url}/query", data={"q": "CREATE DATABASE b"})
        await post(http, f"{influxd.url}/write", params={"db": "b"}, data="\n".join(lines))

        async def heard(each: Any, within_s: float) -> dict[str, float]:
            query = filled_in(influxql.received("m", each, within_s), now_ns, 7 * 86_400)
            return {series["tags"]["device"]: series["values"][0][1] for series in await ask(http, influxd, query)}

        assert await heard(first, 900) == {"sends": 15, "stopped": 0}
        assert await heard(first, 3600) == {"sends": 60, "stopped": 40}
        assert await heard(both, 900) == {"sends": 30, "stopped": 0, "only-b": 1}
