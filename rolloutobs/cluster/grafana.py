"""Annotations in Grafana, each written once: it is looked for by its tag before it is made.

Grafana has no key that makes a repeated POST harmless. One that was not answered may have been taken, so what
is tried again is the whole of finding and writing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from rolloutobs.analysis._http import BUSY, REFUSED, Access, Answer, Http, Retries, base_url
from rolloutobs.cluster.annotations import Annotation, Written, changes, key_tag
from rolloutobs.errors import GrafanaError, SourceError

__all__ = ["Act", "Done", "Grafana", "retried"]

_LIMIT: Final = 100
"""Grafana's own default, and far more than there are of one key."""
_PASSING: Final = BUSY | {408, 500}
"""500 too: Grafana answers so while its database is locked."""
_LONGEST_WAIT: Final = 30.0
"""Seconds, whatever ``Retry-After`` asks for."""
_RIGHTS: Final = {
    401: "Grafana does not know the token: it has expired, or is of another organisation or stack",
    403: "the token may not do that; its service account needs annotations:read, annotations:create and "
    "annotations:write (the role Editor has them)",
    404: "is this the address of Grafana, with its sub-path if it has one?",
}

T = TypeVar("T")


class Act(StrEnum):
    """What has been done about an annotation."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    """It was there, and as wanted."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an annotation."""

    act: Act
    id: int
    """Grafana's."""


class Grafana:
    """One Grafana; each method is one attempt. Close it, or use it as a context.

    Args:
        url: of Grafana, with its sub-path.
        access: its token.
        timeout_seconds: for each request.

    Raises:
        ConfigurationError: the URL is no address, or a certificate cannot be used.
    """

    def __init__(self, url: str, access: Access, timeout_seconds: float = 10.0) -> None:
        self._url = base_url(url).rstrip("/") + "/api/annotations"
        self._host = urlsplit(self._url).netloc.rpartition("@")[2]
        self._access = access
        self._http = Http(timeout_seconds, trust_env=True, access=access)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def find(self, key: str, dashboard: str = "") -> Written | None:
        """Return the annotation with the tag of `key`, the oldest if there are several; ``None``: there is
        none.

        Raises:
            GrafanaError: Grafana has not said.
        """
        tag = key_tag(key)
        params = [("tags", tag), ("matchAny", "false"), ("limit", str(_LIMIT)), ("type", "annotation")]
        if dashboard:
            params.append(("dashboardUID", dashboard))
        found = await self._ask("GET", "", params=params)
        if not isinstance(found, list):
            raise self._odd(found)
        try:
            written = [
                _written(each)
                for each in found
                if tag in (each.get("tags") or ()) and (each.get("dashboardUID") or "") == dashboard
            ]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._odd(found) from None
        return min(written, key=lambda each: each.id, default=None)

    async def create(self, annotation: Annotation) -> int:
        """Make `annotation`, whether or not it is there, and return its id.

        Raises:
            GrafanaError: Grafana has not taken it, or has not said whether it has.
        """
        made = await self._ask("POST", "", body=annotation.body())
        if not isinstance(made, dict) or not isinstance(made.get("id"), int):
            raise self._odd(made)
        return int(made["id"])

    async def change(self, number: int, changed: Mapping[str, Any]) -> None:
        """Change some fields of an annotation; its tags are replaced as a whole.

        Raises:
            GrafanaError: Grafana has not taken it.
        """
        await self._ask("PATCH", f"/{number}", body=changed)

    async def put(self, annotation: Annotation) -> Done:
        """See to it that `annotation` is there, and as it is here; again and again without harm.

        Raises:
            GrafanaError: Grafana has not taken it.
        """
        found = await self.find(annotation.key, annotation.dashboard)
        if found is None:
            return Done(Act.CREATED, await self.create(annotation))
        different = changes(annotation, found)
        if not different:
            return Done(Act.UNCHANGED, found.id)
        await self.change(found.id, different)
        return Done(Act.UPDATED, found.id)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        text = "" if body is None else json.dumps(body, ensure_ascii=False)
        try:
            # A file that is not there will not be there in a second.
            self._access.authorization()
        except SourceError as error:
            raise GrafanaError(str(error), is_unauthorized=True) from None
        try:
            answer = await self._http.exchange(method, self._url + path, params=params, body=text)
        except SourceError as error:
            raise GrafanaError(f"Grafana at {self._host}: {error}", is_passing=True) from None
        if not 200 <= answer.status < 300:
            raise self._refused(answer)
        try:
            return json.loads(answer.text)
        except ValueError:
            raise self._odd(answer.text) from None

    def _refused(self, answer: Answer) -> GrafanaError:
        hint = _RIGHTS.get(answer.status, "")
        said = f"Grafana at {self._host} answered {answer.status}{_message(answer.text)}"
        return GrafanaError(
            f"{said}; {hint}" if hint else said,
            is_passing=answer.status in _PASSING,
            after_seconds=answer.retry_after_seconds,
            is_unauthorized=answer.status in REFUSED,
        )

    def _odd(self, found: object) -> GrafanaError:
        return GrafanaError(
            f"{self._host} does not answer as Grafana does: {str(found)[:80]!r}; is this its address?"
        )


async def retried(
    operation: Callable[[], Awaitable[T]],
    retries: Retries,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T:
    """Return what `operation` returns, which is tried again while its failure is one that passes.

    Raises:
        GrafanaError: the last failure.
    """
    for attempt in range(1, retries.attempts):
        try:
            return await operation()
        except GrafanaError as error:
            if not error.is_passing:
                raise
            await sleep(min(max(error.after_seconds, retries.wait(attempt)), _LONGEST_WAIT))
    return await operation()


def _message(text: str) -> str:
    """Return what an error answer says, as an end of a sentence."""
    try:
        plain = json.loads(text)
    except ValueError:
        plain = None
    said = plain.get("message") if isinstance(plain, dict) else None
    return f": {said}" if isinstance(said, str) and said else ""


def _written(plain: Mapping[str, Any]) -> Written:
    time = int(plain.get("time") or 0)
    return Written(
        int(plain["id"]),
        str(plain.get("text") or ""),
        tuple(plain.get("tags") or ()),
        time,
        int(plain.get("timeEnd") or time),
    )
