"""How much is asked and how long it takes, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from ..serving.questions import questions

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Edges of the histogram."""


class Metrics:
    """Counts of one server. What is asked is a question's name, or none of them: nobody can add to the list."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "polytope_requests", "Requests that were answered.", ["question", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "polytope_request_seconds",
            "Seconds until an answer was sent.",
            ["question"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.under_way = Gauge("polytope_under_way", "Requests that are being answered.", registry=self._registry)

    def watch(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer."""
        name = scope["path"].rpartition("/")[2]
        question = name if name in questions() else "other"
        self._requests.labels(question, str(status)).inc()
        self._seconds.labels(question).observe(seconds)

    def page(self) -> tuple[bytes, int, None, str]:
        """The text that Prometheus reads, as arguments of a response."""
        return generate_latest(self._registry), 200, None, CONTENT_TYPE_LATEST
