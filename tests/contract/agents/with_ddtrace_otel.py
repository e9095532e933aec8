import os

os.environ["DD_TRACE_OTEL_ENABLED"] = "true"

import with_ddtrace  # noqa: F401
