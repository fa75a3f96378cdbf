"""Metrics: read by Prometheus' own parser, taken by a collector, named as the pages say."""

import gzip
import json
import re
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fakes import faults, running
from fakes.time import HandClock
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from batchembed.errors import MissingExtraError, UsageError
from batchembed.metrics import METRICS, About, Textfile, readings
from batchembed.metrics.otel import OpenTelemetry, named
from batchembed.metrics.table import WAITS
from batchembed.metrics.textfile import WRITE_SECONDS, rendered
from batchembed.monitor import Monitor, Progress, Standing, Summary
from batchembed.monitor.progress import Used

ROOT = Path(__file__).parent.parent
ABOUT = About("runs/a", "openai", 'a "model"\\\n', 1_700_000_000.0)
NOW = "2026-01-01T00:00:00+00:00"
THEN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
GIVEN = [f"text {number} of some length" for number in range(40)]
FULL = Progress(
    at=NOW,
    phase="embedding",
    done=10,
    total=30,
    seconds_left=12.5,
    used=Used("requests_per_minute", 600.0, 0.98),
    standing=Standing("circuit_open", "circuit open", "503 Unavailable: sk-secret", 7.0),
    summary=Summary(
        rows=40, distinct=30, to_send=30, sent=10, requests=2, tokens=100, cost=0.5, currency="EUR",
        failures={"throttled": 3}, reasons={"null_text": 2}, output_bytes=9,
        pace={"limits": {"requests_per_minute": {"limit": 600.0}}, "waited": {"requests": 1.5}},
    ),
)  # fmt: skip


def parsed(text):
    """Every value by name and labels but `run`, as Prometheus' own parser reads it."""
    found = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = tuple(value for name, value in sorted(one.labels.items()) if name != "run")
            assert (one.name, labels) not in found, "told twice"
            found[one.name, labels] = one.value
    return found


def families(text):
    return {one.name: one for one in text_string_to_metric_families(text)}


def test_prometheus_reads_what_is_written():
    """Names, types, labels with any letters, and values."""
    text = rendered(readings(ABOUT, FULL, ended=False))
    found = parsed(text)
    assert found["batchembed_texts_total", ("embedded",)] == 10
    assert found["batchembed_texts_total", ("rejected",)] == 2
    assert found["batchembed_cost_total", ("EUR",)] == 0.5
    assert found["batchembed_limit_per_second", ("requests",)] == 10
    assert found["batchembed_limit_used_ratio", ("requests",)] == 0.98
    assert found["batchembed_attempts_failed_total", ("throttled",)] == 3
    assert found["batchembed_waited_seconds_total", ("requests",)] == 1.5
    assert found["batchembed_run_start_timestamp_seconds", ()] == 1_700_000_000
    assert found["batchembed_run_updated_timestamp_seconds", ()] == THEN
    assert found["batchembed_memory_max_bytes", ()] > 10_000_000
    (info,) = families(text)["batchembed_run_info"].samples
    assert info.labels["model"] == ABOUT.model
    assert all(one.labels["run"] == "runs/a" for f in families(text).values() for one in f.samples)
    assert families(text)["batchembed_texts"].type == "counter"


def test_names_keep_to_the_conventions():
    """Counters end with _total, and nothing else does; base units; no unit is a prefix of ten."""
    for metric in METRICS:
        assert re.fullmatch(r"batchembed_[a-z]+(_[a-z]+)*", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert not re.search(r"milli|micro|kilo|mega|_ms|minute|hour|percent", metric.name)
        assert metric.help.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_an_open_circuit_is_told_with_its_reason_and_the_next_probe():
    """As a code of HTTP: what a server says is no label, and may hold anything."""
    text = rendered(readings(ABOUT, FULL, ended=False))
    found = parsed(text)
    assert found["batchembed_circuit_open", ("503",)] == 1
    assert found["batchembed_next_try_timestamp_seconds", ()] == THEN + 7
    assert found["batchembed_waiting", ("circuit_open",)] == 1
    assert sum(found["batchembed_waiting", (kind,)] for kind in WAITS) == 1
    assert "sk-secret" not in text


@pytest.mark.parametrize(
    ("standing", "reason", "value"),
    [
        (Standing(), "", 0.0),
        (Standing("throttled", "over", "429 x", 1.0), "", 0.0),
        (Standing("circuit_open", "open", "no connection to `a`", 1.0), "no_answer", 1.0),
        (Standing("circuit_open", "open", "50312 bottles", None), "no_answer", 1.0),
    ],
)
def test_the_reasons_of_a_circuit_are_few(standing, reason, value):
    """A label that grows with what servers say would break a Prometheus."""
    progress = Progress(at=NOW, standing=standing)
    found = parsed(rendered(readings(ABOUT, progress, ended=False)))
    assert found["batchembed_circuit_open", (reason,)] == value


@pytest.mark.parametrize(
    ("state", "code", "success"),
    [("complete", 0, THEN), ("complete", 3, THEN), ("stopped", 4, 5.0), ("stopped", 75, 5.0)],
)
def test_how_a_run_ended(state, code, success):
    """Its code, and when one last ended well: the one thing to alert on."""
    about = About("r", "p", "m", 1.0, success=5.0)
    progress = Progress(at=NOW, summary=Summary(state=state, exit_code=code))
    found = parsed(rendered(readings(about, progress, ended=True)))
    assert found["batchembed_run_exit_code", ()] == code
    assert found["batchembed_run_running", ()] == 0
    assert found["batchembed_run_last_success_timestamp_seconds", ()] == success
    assert ("batchembed_run_phase", ("starting",)) not in found


def test_while_it_runs_there_is_no_exit_code():
    """Absent, not 0: 0 would be success."""
    found = parsed(rendered(readings(ABOUT, FULL, ended=False)))
    assert ("batchembed_run_exit_code", ()) not in found
    assert found["batchembed_run_running", ()] == 1
    assert ("batchembed_run_last_success_timestamp_seconds", ()) not in found


# -- the file --------------------------------------------------------------------------------------


def test_the_file_is_written_every_minute_and_at_the_end(tmp_path):
    """As the run's own clock goes; the file is there whole at any time."""
    path, clock = tmp_path / "a.prom", HandClock()
    monitor = Monitor("quiet", clock=clock)
    monitor.listeners = [Textfile(path, ABOUT, monitor.say)]
    monitor.phase("embedding", 1000, "texts")
    seen = []
    for _ in range(150):
        clock.seconds += 1
        monitor.answered(1, 3)
        seen.append(parsed(path.read_text())["batchembed_texts_total", ("embedded",)])
    assert sorted(set(seen)) == [0, WRITE_SECONDS, 2 * WRITE_SECONDS]
    monitor.close("complete", 0)
    last = parsed(path.read_text())
    assert last["batchembed_texts_total", ("embedded",)] == 150
    assert last["batchembed_run_exit_code", ()] == 0
    assert [one.name for one in tmp_path.iterdir()] == ["a.prom"]


def test_the_last_success_outlives_the_next_run(tmp_path):
    """A run that fails keeps the time of the one before."""
    path = tmp_path / "a.prom"
    Textfile(path, ABOUT, print).ended(Progress(at=NOW, summary=Summary(state="complete")))
    failed = Progress(at="2026-02-01T00:00:00+00:00", summary=Summary("", "stopped", exit_code=4))
    Textfile(path, ABOUT, print).ended(failed)
    found = parsed(path.read_text())
    assert found["batchembed_run_last_success_timestamp_seconds", ()] == THEN
    assert found["batchembed_run_exit_code", ()] == 4


def test_what_cannot_be_read_of_an_older_file_is_no_trouble(tmp_path):
    """Binary, or another program's."""
    path = tmp_path / "a.prom"
    path.write_bytes(b"\xff\xfe")
    Textfile(path, ABOUT, print).ended(FULL)
    assert parsed(path.read_text())


@pytest.mark.parametrize("name", ["a.txt", "none/a.prom", "folder.prom", ".prom"])
def test_a_file_that_no_collector_would_read_is_refused(tmp_path, name):
    """Before anything is sent, with the mend."""
    (tmp_path / "folder.prom").mkdir()
    with pytest.raises(UsageError) as found:
        Textfile(tmp_path / name, ABOUT, print)
    assert name in str(found.value)
    assert found.value.hint


def test_a_disk_that_is_full_later_is_one_warning(tmp_path):
    """Figures are not worth a run."""
    said = []
    (tmp_path / "gone").mkdir()
    made = Textfile(tmp_path / "gone" / "a.prom", ABOUT, said.append)
    (tmp_path / "gone").rmdir()
    made.heard(FULL, 0.0)
    made.ended(FULL)
    assert len(said) == 1
    assert said[0].startswith("warning: ")
    assert "a.prom" in said[0]


def test_a_run_writes_its_metrics(place):
    """By the option, agreeing with the bill; a second run that sends nothing says so."""
    with running() as server:
        job = place(GIVEN, server=server)
        job.run("run", job.job, "--metrics-file", "a.prom")
        found = parsed((job.folder / "a.prom").read_text())
        job.run("run", job.job, "--metrics-file", "a.prom")
        again = parsed((job.folder / "a.prom").read_text())
    assert found["batchembed_tokens_total", ()] == server.bill.tokens
    assert found["batchembed_requests_total", ()] == server.bill.requests
    assert found["batchembed_texts_total", ("embedded",)] == len(GIVEN)
    parts = sum(one.stat().st_size for one in (job.out / "embeddings").iterdir())
    assert found["batchembed_output_bytes", ()] == parts
    assert again["batchembed_texts_total", ("embedded",)] == 0
    assert again["batchembed_run_exit_code", ()] == 0


def test_a_run_that_fails_writes_its_metrics(place):
    """With its exit code, by the setting of the job; and no key."""
    with running(script=lambda _: faults.out_of_money()) as server:
        job = place(GIVEN, server=server, metrics__textfile="a.prom")
        job.run(code=4)
    text = (job.folder / "a.prom").read_text()
    assert parsed(text)["batchembed_run_exit_code", ()] == 4
    assert "a-key" not in text


def test_a_file_that_cannot_be_written_sends_nothing(place):
    """Exit code 2 before the first request."""
    with running() as server:
        job = place(GIVEN, server=server)
        ended = job.run("run", job.job, "--metrics-file", "none/a.prom", code=2)
        assert server.bill.requests == 0
    assert "none/a.prom" in ended.err


# -- the pages -------------------------------------------------------------------------------------


def test_the_page_tells_every_metric():
    """Name, type and labels, and none that does not exist."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"(?m)^\| `(batchembed_\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", page)
    told = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), why) for name, kind, labels, why in rows
    ]
    assert told == [(m.name, m.kind, m.labels, m.help) for m in METRICS]


def queries():
    board = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"], ""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for expr in re.findall(r"(?m)^  expr: (.*)$", page):
        yield expr, ""


def wrong(expr, legend):
    """What a query or its legend names that does not exist."""
    known = {metric.name: {"run", *metric.labels} for metric in METRICS}
    names = re.findall(r"\bbatchembed_\w+", expr)
    labels = {
        *re.findall(r"(\w+)\s*=~?", re.sub(r"==", "", expr)),
        *re.findall(r"{{(\w+)}}", legend),
    }
    for inner in re.findall(r"by \(([^)]*)\)", expr):
        labels |= set(inner.replace(",", " ").split())
    return [name for name in names if name not in known] + [
        label for label in labels for name in names if label not in known.get(name, {label})
    ]


def test_the_dashboard_asks_for_what_exists():
    """Every query of the dashboard and of the alerts, its labels and its legend."""
    asked = list(queries())
    assert len(asked) > 15
    assert [(expr, found) for expr, legend in asked if (found := wrong(expr, legend))] == []
    counters = {m.name for m in METRICS if m.kind == "counter"}
    for expr, _ in asked:
        for name in re.findall(r"(?:rate|increase)\((batchembed_\w+)", expr):
            assert name in counters, f"{expr}: a rate of a gauge"


@pytest.mark.parametrize(
    ("expr", "legend", "bad"),
    [
        ("batchembed_nothing", "", "batchembed_nothing"),
        ('batchembed_cost_total{shard="1"}', "", "shard"),
        ("sum by (model) (batchembed_cost_total)", "", "model"),
        ("batchembed_cost_total", "{{reason}}", "reason"),
    ],
)
def test_a_wrong_query_is_seen(expr, legend, bad):
    """A metric or label that does not exist is reported."""
    assert wrong(expr, legend) == [bad]


# -- OpenTelemetry ---------------------------------------------------------------------------------


@contextmanager
def collector():
    """A collector over a real socket: what was posted, by path."""
    posted = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            posted.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Taking)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def taken(posted):
    """The last value of every metric, and the spans."""
    values, spans = {}, []
    for path, body in posted:
        if path == "/v1/traces":
            for one in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans += [span for scope in one.scope_spans for span in scope.spans]
            continue
        assert path == "/v1/metrics"
        for one in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (m for scope in one.scope_metrics for m in scope.metrics):
                data = metric.sum if metric.HasField("sum") else metric.gauge
                for point in data.data_points:
                    labels = {a.key: a.value.string_value for a in point.attributes}
                    del labels["run"]
                    values[metric.name, tuple(labels.values())] = point.as_double
    return values, spans


def test_a_collector_is_told_of_a_run(place):
    """Metrics and one span, with the figures of the bill."""
    with collector() as (url, posted), running() as server:
        job = place(GIVEN, server=server, metrics__opentelemetry=True)
        job.run(env={"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    values, spans = taken(posted)
    assert values["batchembed.tokens", ()] == server.bill.tokens
    assert values["batchembed.texts", ("embedded",)] == len(GIVEN)
    assert values["batchembed.run_exit_code", ()] == 0
    (span,) = spans
    told = {a.key: a.value for a in span.attributes}
    assert span.name == "batchembed run"
    assert told["batchembed.tokens"].int_value == server.bill.tokens
    assert told["batchembed.exit_code"].int_value == 0
    assert span.end_time_unix_nano > span.start_time_unix_nano
    assert b"a-key" not in b"".join(body for _, body in posted)


def test_a_run_that_fails_is_a_span_that_failed(monkeypatch):
    """With its exit code."""
    with collector() as (url, posted):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        made = OpenTelemetry(ABOUT, print)
        made.heard(FULL, 0.0)
        made.ended(Progress(at=NOW, summary=Summary(state="stopped", exit_code=75)))
    values, (span,) = taken(posted)
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert values["batchembed.run_exit_code", ()] == 75


def test_without_the_extra_there_is_a_line_to_install_it(monkeypatch):
    """Not a run that says nothing to nobody."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    with pytest.raises(MissingExtraError) as found:
        OpenTelemetry(ABOUT, print)
    assert found.value.hint == 'pip install "batchembed[otel]"'


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("batchembed_texts_total", ("batchembed.texts", "")),
        ("batchembed_run_duration_seconds", ("batchembed.run_duration", "s")),
        ("batchembed_memory_max_bytes", ("batchembed.memory_max", "By")),
        ("batchembed_limit_used_ratio", ("batchembed.limit_used", "1")),
        ("batchembed_waited_seconds_total", ("batchembed.waited", "s")),
    ],
)
def test_names_by_the_conventions_of_opentelemetry(name, told):
    """The unit is no part of the name there."""
    (metric,) = (metric for metric in METRICS if metric.name == name)
    assert named(metric) == told
    assert len({named(metric)[0] for metric in METRICS}) == len(METRICS)
