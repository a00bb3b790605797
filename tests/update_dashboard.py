"""Makes deploy/grafana/credentials-provider.json from the metrics; run it as a script."""

from __future__ import annotations

import json
import os
from typing import Any

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DASHBOARD = os.path.join(PROJECT, "deploy", "grafana", "credentials-provider.json")
WHERE = '{folder=~"$folder",shard=~"$shard"}'
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH = 24  # columns of Grafana's grid

# Title, kind, unit, expression with {} for the labels, legend, width, from which value on it is red
# (below which, where it is negative).
PANELS = (
    ("Identities", "stat", "none", "count(token_expiry_timestamp_seconds{})", "", 4, None),
    (
        "Without a valid token",
        "stat",
        "none",
        "sum(token_expiry_timestamp_seconds{} <= bool time())",
        "",
        5,
        1,
    ),
    ("Refused", "stat", "none", "sum(renewal_refused{})", "", 5, 1),
    ("Hook pending", "stat", "none", "sum(hook_pending{})", "", 5, 1),
    ("Last exit code", "stat", "none", "max(last_run_exit_code{})", "", 5, 1),
    (
        "Token valid for",
        "timeseries",
        "s",
        "clamp_min(token_expiry_timestamp_seconds{} - time(), 0)",
        "{{identity}}",
        12,
        -300,
    ),
    (
        "Time since the last run",
        "timeseries",
        "s",
        "time() - last_run_timestamp_seconds{}",
        "{{instance}} {{folder}} {{shard}}",
        12,
        None,
    ),
    (
        "Renewals an hour",
        "timeseries",
        "none",
        "increase(renewals_total{}[1h])",
        "{{identity}}",
        12,
        None,
    ),
    (
        "Failures an hour",
        "timeseries",
        "none",
        "increase(failures_total{}[1h])",
        "{{identity}}",
        12,
        1,
    ),
    (
        "Secret or certificate valid for",
        "bargauge",
        "s",
        "sort(credential_expiry_timestamp_seconds{} - time())",
        "{{identity}}",
        12,
        -30 * 86400,
    ),
    (
        "Length of the last run",
        "timeseries",
        "s",
        "last_run_duration_seconds{}",
        "{{instance}} {{folder}} {{shard}}",
        6,
        None,
    ),
    ("Versions", "bargauge", "none", "count by (version) (info{})", "{{version}}", 6, None),
)


def expression(text: str) -> str:
    """With the metric's whole name and the labels that were chosen."""
    head, _, tail = text.partition("{}")
    start = len(head) - len(head.rsplit("(", 1)[-1].rsplit(" ", 1)[-1])
    return f"{head[:start]}credentials_provider_{head[start:]}{WHERE}{tail}"


def thresholds(red: int | None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if red is not None and red > 0:
        steps.append({"color": "red", "value": red})
    elif red is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": -red}]
    return {"mode": "absolute", "steps": steps}


def panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    left, top, height = 0, 0, 4
    for number, (title, kind, unit, expr, legend, width, red) in enumerate(PANELS, 1):
        if left + width > WIDTH:
            left, top = 0, top + height
        height = 4 if kind == "stat" else 8
        made.append(
            {
                "id": number,
                "title": title,
                "type": kind,
                "datasource": SOURCE,
                "gridPos": {"x": left, "y": top, "w": width, "h": height},
                "fieldConfig": {
                    "defaults": {"unit": unit, "thresholds": thresholds(red)},
                    "overrides": [],
                },
                "targets": [
                    {
                        "refId": "A",
                        "datasource": SOURCE,
                        "expr": expression(expr),
                        "legendFormat": legend or "__auto",
                        "instant": kind != "timeseries",
                    }
                ],
            }
        )
        left += width
    return made


def variable(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values(credentials_provider_info, {name})",
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> str:
    source = {"name": "source", "type": "datasource", "query": "prometheus"}
    document = {
        "uid": "credentials-provider",
        "title": "credentials-provider",
        "tags": ["credentials-provider"],
        "schemaVersion": 38,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [source, variable("folder"), variable("shard")]},
        "panels": panels(),
    }
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    os.makedirs(os.path.dirname(DASHBOARD), exist_ok=True)
    with open(DASHBOARD, "w", encoding="utf-8") as file:
        file.write(dashboard())
