"""What an app team uses to write its logs: a JSON formatter, and a processor for structlog.

Log records carry version, track and trace as soon as the app is instrumented; this is for how they are
written.
"""

from rolloutobs.telemetry.log_json import JSONFormatter
from rolloutobs.telemetry.log_structlog import structlog_processor

__all__ = ["JSONFormatter", "structlog_processor"]
