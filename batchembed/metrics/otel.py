"""OpenTelemetry: the metrics of a run and one span for each execution, sent by OTLP over HTTP.

Where to is told by OpenTelemetry's own environment variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from batchembed.errors import MissingExtraError
from batchembed.metrics.table import METRICS, About, Metric, Reading, readings
from batchembed.monitor import Progress
from batchembed.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

EXPORT_SECONDS = 5.0
UNITS = {"_seconds": "s", "_bytes": "By", "_ratio": "1"}
IN_SPAN = ("rows", "distinct", "reused", "to_send", "sent", "rejected", "requests", "tokens")


class OpenTelemetry:
    """Lets a collector know of a run. A collector that is away is a warning, not an end.

    Raises MissingExtraError where OpenTelemetry is not installed.
    """

    def __init__(self, about: About, say: Callable[[str], None]) -> None:
        try:
            self._metrics, self._traces = _providers()
        except ImportError as error:
            raise MissingExtraError(
                "`metrics.opentelemetry` needs OpenTelemetry, which is not installed",
                hint='pip install "batchembed[otel]"',
            ) from error
        self._about, self._found = about, list[Reading]()
        self._heard = _Heard(say)
        logging.getLogger("opentelemetry").addHandler(self._heard)
        meter = self._metrics.get_meter("batchembed", VERSION)
        for metric in METRICS:
            name, unit = named(metric)
            make: Any = meter.create_observable_gauge
            if metric.kind == "counter":
                make = meter.create_observable_counter
            make(name, [self._reader(metric)], unit, metric.help)
        attributes = {
            "batchembed.run": about.run,
            "batchembed.provider": about.provider,
            "batchembed.model": about.model,
        }
        tracer = self._traces.get_tracer("batchembed", VERSION)
        self._span = tracer.start_span("batchembed run", attributes=attributes)

    def heard(self, progress: Progress, _now: float) -> None:
        """Keep what is read when the next export is due."""
        self._found = readings(self._about, progress, ended=False)

    def ended(self, progress: Progress) -> None:
        """Send the last figures and the span, and wait some seconds until they are taken."""
        from opentelemetry.trace import StatusCode

        self._found = readings(self._about, progress, ended=True)
        summary = progress.summary
        told: Mapping[str, Any] = summary.to_dict()
        for name in IN_SPAN:
            self._span.set_attribute(f"batchembed.{name}", told[name])
        self._span.set_attribute("batchembed.exit_code", summary.exit_code)
        if summary.cost is not None:
            self._span.set_attribute("batchembed.cost", summary.cost)
            self._span.set_attribute("batchembed.currency", summary.currency)
        failed = summary.state == "stopped"
        self._span.set_status(StatusCode.ERROR if failed else StatusCode.OK)
        self._span.end()
        self._traces.shutdown()
        self._metrics.shutdown(timeout_millis=2000.0 * EXPORT_SECONDS)
        logging.getLogger("opentelemetry").removeHandler(self._heard)

    def _reader(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        def read(_: CallbackOptions) -> Iterable[Observation]:
            found = self._found  # by the exporter's thread, while the run goes on
            return [Observation(x.value, dict(x.labels)) for x in found if x.metric is metric]

        return read


def named(metric: Metric) -> tuple[str, str]:
    """Return the name and unit of a metric by OpenTelemetry's conventions."""
    name = metric.name.removesuffix("_total")
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    for end in UNITS:
        name = name.removesuffix(end)
    return name.replace("batchembed_", "batchembed.", 1), unit


def _providers() -> tuple[MeterProvider, TracerProvider]:
    """Return where metrics and spans go. They are this run's own, not those of the process."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "batchembed", "service.version": VERSION})
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(timeout=EXPORT_SECONDS))
    metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=EXPORT_SECONDS)))
    return metrics, traces


class _Heard(logging.Handler):
    """Says the first trouble that OpenTelemetry has; the rest would be the same again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say, self._said = say, False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._said:
            self._said = True
            self._say(f"warning: OpenTelemetry: {record.getMessage()}")
