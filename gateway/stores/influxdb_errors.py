"""Answers of InfluxDB 2 other than 204 and 200, as the contract's errors. Pure.

Only InfluxDB itself can say that the data is at fault, in its own JSON: `{"code": "invalid", "message": …}` or, as
versions 1 and 3 put it, `{"error": "partial write: …"}`. A proxy's 400 or 413, a cut answer or an empty one says
nothing about the data: it is sent again. A missing token, bucket or organisation is for the operator to correct: the
data waits meanwhile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

from gateway.config.credentials import influxdb_variable, store_setting
from gateway.errors import StoreError, StoreRefused, StoreThrottled, StoreUnavailable
from gateway.visible import visible

SHOWN = 500
TOO_LARGE = 413
LONGEST_PAUSE = 3600.0
"""Seconds that a server may request; a lane waits for `drain.max_backoff` at most."""
THROTTLES = (429, 503)
DATA_FAULTS = (400, 422)
CODES = ("invalid", "unprocessable entity", "request too large")
"""Values of `code` by which InfluxDB 2 blames points."""
BLAMES = ("partial write", "unable to parse")
"""Beginnings of `error` by which versions 1 and 3 blame points; their other 400s are about the request."""


@dataclass(frozen=True)
class Failure:
    """An HTTP answer that is not a success, the bucket and organisation that it is about, and the store's name.
    `lines` is how many lines the request had."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    bucket: str
    org: str
    store: str | None = None
    lines: int = 0

    def of_write(self) -> StoreError:
        """Return the error that a write raises."""
        if self._blames_data:
            return StoreRefused(f"InfluxDB rejected the data: {self._message()}")
        return self.of_query()

    def of_query(self) -> StoreUnavailable:
        """Return the error that a query raises: there is no data that could be refused."""
        pause = retry_after(self.headers.get("Retry-After", "")) if self.status in THROTTLES else None
        if pause is not None:
            return StoreThrottled(f"InfluxDB requests a pause of {pause:g} s: {self._message()}", pause)
        return StoreUnavailable(f"{self._problem()}: {self._message()}{self._advice()}")

    @property
    def is_foreign(self) -> bool:
        """Whether something else than InfluxDB answers."""
        return not self._words

    @cached_property
    def _words(self) -> dict[str, Any]:
        """Return what InfluxDB says in its own JSON; nothing where another server answers, or the answer was cut."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        if not isinstance(found, dict):
            return {}
        is_v2 = isinstance(found.get("code"), str) and isinstance(found.get("message"), str)
        return found if is_v2 or isinstance(found.get("error"), str) else {}

    @property
    def _blames_data(self) -> bool:
        """Whether InfluxDB itself says that points are at fault. Of a request that is too long, only a point that is
        alone in it can be: the others go in shorter ones."""
        code, error = self._words.get("code"), self._words.get("error", "")
        if self.status == TOO_LARGE:
            return code in CODES and self.lines == 1
        return self.status in DATA_FAULTS and (code in CODES or (code is None and error.startswith(BLAMES)))

    def _problem(self) -> str:
        match self.status:
            case 401 | 403:
                return f"InfluxDB rejected the gateway's token for the bucket {self.bucket!r}"
            case 404:
                return f"InfluxDB has no bucket {self.bucket!r} in the organisation {self.org!r}"
            case 413 if self.lines == 1:
                return "one reading is too long for what answers at InfluxDB's address"
            case 413:
                return "the request is too long for what answers at InfluxDB's address"
            case 400 if self._words:
                return "InfluxDB rejected the request" if self.lines else "InfluxDB rejected the query"
            case status if status >= 500 or status in THROTTLES:
                return "InfluxDB cannot handle the request now"
            case _:
                return "this is not an InfluxDB response"

    def _advice(self) -> str:
        settings = f"{store_setting(self.store)}.influxdb"
        match self.status:
            case 401 | 403:
                return (
                    f"; set {settings}.token_file or {influxdb_variable(self.store)} to a token that may read and"
                    " write this bucket. The readings wait meanwhile."
                )
            case 404:
                return f"; run `gateway provision`, or correct {settings}.bucket and .org. The readings wait meanwhile."
            case 413 if self.lines == 1:
                return "; raise the limit of the proxy in front of it (nginx: client_max_body_size). Readings wait."
            case 413:
                return "; shorter requests follow"
            case status if status < 500 and status not in THROTTLES and not (status == 400 and self._words):
                return f"; is {settings}.url correct, and what stands in front of it?"
            case _:
                return ""

    def _message(self) -> str:
        """Return the status, and the words of whoever answered. InfluxDB has no `Server` header: others have."""
        server, kind = self.headers.get("Server", ""), self.headers.get("Content-Type", "")
        names = [f"Server: {server}"] if server else []
        if words := self._words:
            text = str(words.get("message") or words["error"])
        else:
            text = self.body.decode(errors="replace").strip() or "without a word"
            names += [kind] if kind else []
        who = f" ({visible(', '.join(names))[:SHOWN]})" if names else ""
        return f"{self.status}{who} {visible(text[:SHOWN])[:SHOWN]}"


def retry_after(value: str) -> float | None:
    """Return the seconds that a Retry-After header requests from now; RFC 9110 allows a number or a date. None where it
    is neither, or no time that can be waited for."""
    value = value.strip()
    try:
        seconds = float(value) if value.isascii() and value.isdecimal() else _until(value)
    except (ValueError, TypeError, OverflowError, IndexError):  # the parser of dates raises any of them
        return None
    return min(max(0.0, seconds), LONGEST_PAUSE) if math.isfinite(seconds) else None


def _until(date: str) -> float:
    until = parsedate_to_datetime(date)
    return (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
