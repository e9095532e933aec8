"""From a body to its answer: what was counted or refused, as the format and the page want to hear it."""

from __future__ import annotations

import logging
from typing import Final

from rolloutobs.errors import BeaconError
from rum_collector.formats import Format
from rum_collector.http import Headers, Response, cors, refusal
from rum_collector.reception import Receive, Reception
from rum_collector.words import BeaconOutcome

__all__ = ["Posting"]

_STATUS: Final = {
    BeaconOutcome.TOO_LARGE: 413,
    BeaconOutcome.ENCODED: 415,
    BeaconOutcome.FORBIDDEN_ORIGIN: 403,
    BeaconOutcome.LIMITED: 429,
    BeaconOutcome.TIMEOUT: 408,
    BeaconOutcome.ERROR: 500,
}
"""400 for all others."""

_logger = logging.getLogger("rum_collector")


class Posting:
    """Answers bodies, whatever their content type: text/plain is what a page can post without a preflight."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def receive(self, form: Format, peer: str, headers: Headers, receive: Receive) -> Response | None:
        """Read a body and answer it; ``None`` where nobody is there to hear.

        Args:
            form: of the path that it was posted to.
            peer: address of who sent it.
            headers: of the request.
            receive: of ASGI.
        """
        try:
            body = await self._reception.read(headers, receive)
        except BeaconError as error:
            refused = self._refused(error, headers)
            return None if error.reason == BeaconOutcome.DISCONNECTED else refused
        except Exception:
            return self._failed(headers)
        return self.answer(form, peer, headers, body)

    def answer(self, form: Format, peer: str, headers: Headers, body: bytes) -> Response:
        """Count a body that was read as a whole, and answer it. Raises nothing.

        Args:
            form: of the path that it was posted to.
            peer: address of who sent it.
            headers: of the request.
            body: within the limit.
        """
        try:
            self._reception.take(form, peer, headers, body)
        except BeaconError as error:
            return self._refused(error, headers)
        except Exception:
            return self._failed(headers)
        return form.answer(headers)

    def _refused(self, error: BeaconError, headers: Headers) -> Response:
        outcome = BeaconOutcome(error.reason)
        self._reception.ingest.reject(outcome)
        fields = cors(headers)
        if outcome is BeaconOutcome.LIMITED:
            fields[b"retry-after"] = b"%d" % self._reception.retry_seconds
        return refusal(_STATUS.get(outcome, 400), outcome.value, str(error), fields)

    def _failed(self, headers: Headers) -> Response:
        _logger.exception("a beacon could not be counted")
        self._reception.ingest.reject(BeaconOutcome.ERROR)
        text = "the collector failed; its log says why"
        return refusal(500, BeaconOutcome.ERROR.value, text, cors(headers))
