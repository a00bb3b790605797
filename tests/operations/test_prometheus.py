"""The rules and the dashboard of deploy/, by promtool and by a Prometheus that scrapes `watch`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

import update_dashboard
from credentials_provider.emulator import Fault
from support import CHECKOUT, PATIENCE, Project, apps, closed_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from operations.running import Program

RULES = Path(CHECKOUT, "deploy", "prometheus", "rules.yml")
RULE_TESTS = RULES.with_name("rules.test.yml")
GUIDE = Path(CHECKOUT, "docs", "operations.md")
NAME = re.compile(r"credentials_provider_(\w+)")


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    (group,) = load(RULES)["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> list[str]:
    """Of the dashboard, with everything chosen."""
    panels = json.loads(update_dashboard.dashboard())["panels"]
    return [
        target["expr"].replace("$folder", ".*").replace("$shard", ".*")
        for panel in panels
        for target in panel["targets"]
    ]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_each_alert_fires_where_it_should_and_nowhere_else() -> None:
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(RULE_TESTS)]):
        done = subprocess.run(
            ["promtool", *command], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_both_ways_and_explained() -> None:
    """With a severity, a time to wait, and a row in the guide."""
    tests = [each for group in load(RULE_TESTS)["tests"] for each in group["alert_rule_test"]]
    guide = GUIDE.read_text(encoding="utf-8")
    for rule in rules():
        name = rule["alert"]
        assert {bool(each.get("exp_alerts")) for each in tests if each["alertname"] == name} == {
            True,
            False,
        }
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["for"]
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"| `{name}` |" in guide


def test_rules_and_dashboard_ask_for_metrics_that_there_are(project: Project, run: Program) -> None:
    """Each is in the metrics of a run, and each of those in the guide."""
    project.add(apps(1)[0], client_secret_expires_on="2031-01-01")
    run("--metrics-file", "tokens.prom")
    text = Path(project.folder, "tokens.prom").read_text(encoding="utf-8")
    there = set(re.findall(rf"(?m)^{NAME.pattern}{{", text))
    asked = {name for expr in expressions() for name in NAME.findall(expr)}
    asked |= {name for rule in rules() for name in NAME.findall(rule["expr"])}
    assert asked
    assert asked <= there
    guide = GUIDE.read_text(encoding="utf-8")
    assert [name for name in there if f"`{name}" not in guide] == []


def test_the_dashboard_is_the_one_that_its_script_makes() -> None:
    """Else: tests/.venv/bin/python tests/update_dashboard.py."""
    written = Path(update_dashboard.DASHBOARD).read_text(encoding="utf-8")
    assert written == update_dashboard.dashboard()


class Prometheus:
    """A server that scrapes one address each second and evaluates our rules."""

    def __init__(self, folder: Path, port: int, target: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"
        folder.mkdir()
        shutil.copy(RULES, folder)
        scrape = {"job_name": "tokens", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [scrape],
        }
        (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
        line = ["prometheus", f"--config.file={folder}/prometheus.yml"]
        line += [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder}/data"]
        with open(folder / "log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log)

    def ask(self, path: str, **query: str) -> Any:
        """None while it does not answer."""
        url = f"{self._url}{path}?{urllib.parse.urlencode(query)}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]
        return None

    def value(self, expr: str) -> float | None:
        found = self.ask("query", query=expr)
        result = found["result"] if found else []
        return float(result[0]["value"][1]) if result else None

    def alerts(self) -> dict[str, str]:
        """By name, the state of those that are not inactive."""
        found = self.ask("alerts") or {"alerts": []}
        return {each["labels"]["alertname"]: each["state"] for each in found["alerts"]}


@pytest.fixture
def prometheus(project: Project, run: Program, tmp_path: Path) -> Iterator[Prometheus]:
    """One that scrapes a `watch` of two identities, the second of which is refused."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus")
    many = apps(2)
    project.add_all(many)
    project.idp.inject(Fault("aadsts", code=7000222), None, many[1].client_id)
    port = closed_port()
    watch = run.start("watch", "--health-port", str(port))
    server = Prometheus(tmp_path / "prometheus", closed_port(), port)
    try:
        yield server
    finally:
        for process in (server.process, watch):
            process.terminate()
            process.communicate(timeout=PATIENCE)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_prometheus_scrapes_watch_and_judges_it(prometheus: Prometheus, project: Project) -> None:
    """A refused identity alerts; the healthy service and the other identity do not."""
    until(lambda: prometheus.value("up") == 1.0)
    expected = {"TokenExpired", "TokenRenewalRefused", "TokenRunFails"}
    until(lambda: set(prometheus.alerts()) == expected)
    expiry = 'credentials_provider_token_expiry_timestamp_seconds{identity="ci-agent"}'
    assert prometheus.value(expiry) == project.token("ci-agent")["expires_on"]
    age = prometheus.value("time() - credentials_provider_last_run_timestamp_seconds")
    assert age is not None
    assert age < 30
    (group,) = prometheus.ask("rules")["groups"]
    assert {each["health"] for each in group["rules"]} == {"ok"}
    for expr in expressions():
        assert prometheus.ask("query", query=expr, time=str(time.time())) is not None, expr
    assert prometheus.value('credentials_provider_info{interval="60"}') == 1.0


@pytest.mark.skipif(
    shutil.which("prometheus-node-exporter") is None, reason="needs prometheus-node-exporter"
)
def test_a_collector_keeps_two_shards_apart(project: Project, run: Program, tmp_path: Path) -> None:
    """node-exporter drops the second of two equal series, and says so in a metric."""
    project.add_all(apps(4))
    for part in ("0/2", "1/2"):
        file = tmp_path / f"{part[0]}.prom"
        assert run("--shard", part, "--metrics-file", str(file)).code == 0
    port = closed_port()
    line = ["prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile"]
    line += [f"--collector.textfile.directory={tmp_path}"]
    with subprocess.Popen(
        [*line, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    ) as exporter:
        texts: list[str] = []

        def scraped() -> bool:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer,
            ):
                texts.append(answer.read().decode())
            return bool(texts)

        try:
            until(scraped)
        finally:
            exporter.terminate()
    assert "node_textfile_scrape_error 0" in texts[0]
    shards = re.findall(r'credentials_provider_info\{.*shard="(\d/2)"', texts[0])
    assert sorted(shards) == ["0/2", "1/2"]
    assert len(re.findall(r"(?m)^credentials_provider_token_expiry_.*shard=", texts[0])) == 4
