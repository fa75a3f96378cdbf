"""What a run tells machines that watch it: a Prometheus textfile, OpenTelemetry."""

from batchembed.metrics.table import METRICS, About, Metric, Reading, readings
from batchembed.metrics.textfile import Textfile

__all__ = ["METRICS", "About", "Metric", "Reading", "Textfile", "readings"]
