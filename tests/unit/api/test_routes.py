"""The HTTP API as OpenAPI describes it."""

from __future__ import annotations

from typing import Any

from gateway.api.routes import create_api


def test_operation_ids_do_not_change() -> None:
    """Client generators name their functions after them: a renamed handler must not rename those."""
    services: Any = None  # they are used by requests alone
    paths = create_api(services).openapi()["paths"]
    found = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert sorted(found) == [
        "about_v1_startups__startup__get",
        "devices_v1_startups__startup__devices_get",
        "healthz_healthz_get",
        "latest_v1_startups__startup__latest_get",
        "live_v1_startups__startup__live_get",
        "metrics_metrics_get",
        "payload_v1_startups__startup__rejections__ident__payload_get",
        "readyz_readyz_get",
        "rejection_v1_startups__startup__rejections__ident__get",
        "rejections_v1_startups__startup__rejections_get",
        "replay_any_v1_operator_rejections_replay_post",
        "replay_v1_startups__startup__rejections_replay_post",
        "sequences_v1_startups__startup__devices__device__sequences_get",
        "status_v1_operator_status_get",
        "telemetry_v1_startups__startup__telemetry_get",
        "whereabouts_v1_startups__startup__devices__device__sequences__measurement___number__get",
    ]
