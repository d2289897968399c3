"""Answers of InfluxDB 2 other than 204 and 200, as the contract's errors. Pure.

Only 400, 413 and 422 say that the data is at fault. A missing token, bucket or organisation is for the operator to
correct: the data waits meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gateway.config.credentials import influxdb_variable, store_setting
from gateway.errors import StoreError, StoreRefused, StoreThrottled, StoreUnavailable

SHOWN = 500
DATA_FAULTS = (400, 413, 422)
THROTTLES = (429, 503)


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP answer that is not a success, the bucket and organisation that it is about, and the store's name."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    bucket: str
    org: str
    store: str | None = None

    def of_write(self) -> StoreError:
        """Return the error that a write raises."""
        if self.status in DATA_FAULTS:
            return StoreRefused(f"InfluxDB rejected the data: {self._message()}")
        return self.of_query()

    def of_query(self) -> StoreUnavailable:
        """Return the error that a query raises: there is no data that could be refused."""
        pause = self._retry_after() if self.status in THROTTLES else None
        if pause is not None:
            return StoreThrottled(f"InfluxDB requests a pause of {pause:g} s: {self._message()}", pause)
        return StoreUnavailable(f"{self._problem()}: {self._message()}{self._advice()}")

    def _problem(self) -> str:
        match self.status:
            case 401 | 403:
                return f"InfluxDB rejected the gateway's token for the bucket {self.bucket!r}"
            case 404:
                return f"InfluxDB has no bucket {self.bucket!r} in the organisation {self.org!r}"
            case 400:
                return "InfluxDB rejected the query"
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
            case status if status < 500 and status != 400 and status not in THROTTLES:
                return f"; is {settings}.url correct?"
            case _:
                return ""

    def _message(self) -> str:
        """Return the status, and the server's own words if it has any."""
        text = self.body.decode(errors="replace").strip()
        try:
            body = json.loads(text)
            text = str(body.get("message") or body.get("error") or text)
        except (ValueError, AttributeError):
            pass  # a proxy's page, or nothing
        return f"{self.status} {text[:SHOWN]}".rstrip()

    def _retry_after(self) -> float | None:
        """Return seconds from now; RFC 9110 allows a number or a date."""
        value = self.headers.get("Retry-After", "").strip()
        if value.isdecimal():
            return float(value)
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
