"""The order in which version and service are looked for, and the settings with what was found.

Every place is asked, and what asks it imported, only when those before it had nothing: a process that is told
its version and service opens no file but that of its labels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rolloutobs import variables
from rolloutobs.detection.labels import Labels, read_labels
from rolloutobs.detection.looks import Look, first, usable_words
from rolloutobs.detection.track import TrackResolver, without_primary
from rolloutobs.environment import VARIABLES
from rolloutobs.identity import UNKNOWN_VERSION, Track
from rolloutobs.settings import UNKNOWN_SERVICE, Settings

if TYPE_CHECKING:
    from rolloutobs.detection.modules import AppModule

__all__ = [
    "SERVICE_LABELS",
    "VERSION_LABELS",
    "Surroundings",
    "completed",
    "environment_looks",
    "service_looks",
    "version_looks",
]

VERSION_LABELS = ("app.kubernetes.io/version", "version")
SERVICE_LABELS = ("app.kubernetes.io/name", "app")


class Surroundings:
    """What a process can look at; each part is made on first use, and once.

    Args:
        settings: what arguments and variables said.
        environ: environment variables.
        app: the application object; ``None``: not known.
        modules: modules of the app, where it is known which; else they are found from `app` and the stack.
        folder: working folder.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        app: object = None,
        modules: tuple[AppModule, ...] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.settings = settings
        self.environ = environ
        self._app = app
        self._modules = modules
        self._working_folder = folder

    @functools.cached_property
    def labels(self) -> Labels:
        """The pod's labels."""
        return read_labels(self.settings.labels_file)

    @functools.cached_property
    def modules(self) -> tuple[AppModule, ...]:
        """The app's modules."""
        if self._modules is not None:
            return self._modules
        from rolloutobs.detection.modules import app_modules

        return app_modules(self._app, self.environ)

    @functools.cached_property
    def distribution(self) -> tuple[Look, Look]:
        """Name and version of the app's distribution."""
        from rolloutobs.detection.distribution import distribution_looks

        return distribution_looks(self.modules)

    @functools.cached_property
    def working_folder(self) -> Path:
        """Where the process runs.

        Raises:
            OSError: that folder is gone.
        """
        return self._working_folder or Path.cwd()

    @property
    def folder(self) -> Path:
        """Where the app's source is, else the working folder."""
        for module in self.modules:
            if module.file is not None and not module.is_installed:
                return module.file.parent
        return self.working_folder


Source = Callable[[Surroundings], Iterator[Look]]


def completed(settings: Settings, environ: Mapping[str, str], app: object) -> Settings:
    """Return the settings completed, as `rolloutobs.detection.complete` says."""
    around = Surroundings(settings, environ, app)
    version, service, track = settings.version, settings.service, settings.track
    if version == UNKNOWN_VERSION:
        version = first(version_looks(around)).value or version
    if service == UNKNOWN_SERVICE:
        service = first(service_looks(around)).value or service
    if not settings.track_is_fixed:
        track = _track(around) or track
    return replace(settings, version=version, service=service, track=track)


def version_looks(around: Surroundings) -> Iterator[Look]:
    """Yield every place where the version may be, in the order in which they count. Never raises."""
    sources = (
        functools.partial(_environment, "version"),
        functools.partial(_labels, VERSION_LABELS),
        _image,
        _distribution_version,
        _git,
    )
    return usable_words(_guarded(sources, around))


def service_looks(around: Surroundings) -> Iterator[Look]:
    """Yield every place where the name of the app may be, in the order in which they count. Never raises."""
    sources = (
        functools.partial(_environment, "service"),
        _service_labels,
        _distribution_name,
    )
    return usable_words(_guarded(sources, around))


def environment_looks(field: str, around: Surroundings) -> Iterator[Look]:
    """Yield the variables and resource attributes of a field, in the order in which they count."""
    return usable_words(_environment(field, around))


def _guarded(sources: tuple[Source, ...], around: Surroundings) -> Iterator[Look]:
    for source in sources:
        try:
            yield from source(around)
        except Exception as error:
            # Other people's files and metadata: nothing that is wrong with them may stop an app.
            name = getattr(source, "func", source).__name__
            yield Look(name.strip("_").replace("_", " "), reason=f"failed: {error!r}")


def _environment(field: str, around: Surroundings) -> Iterator[Look]:
    resource = variables.resource_attributes(around.environ)
    for variable in VARIABLES:
        if variable.field == field:
            for name in variable.names:
                yield Look(name, around.environ.get(name, "").strip())
            for key in variable.resource:
                yield Look(f"{key} in OTEL_RESOURCE_ATTRIBUTES", resource.get(key, "").strip())


def _labels(keys: tuple[str, ...], around: Surroundings) -> Iterator[Look]:
    path = around.settings.labels_file
    if path is None:
        return
    labels = around.labels
    if labels.is_missing or labels.problem:
        yield Look(f"labels in {path}", reason=labels.problem or "there is no such file")
        return
    for key in keys:
        yield Look(f"label {key} in {path}", labels.values.get(key, ""))


def _service_labels(around: Surroundings) -> Iterator[Look]:
    for look in _labels(SERVICE_LABELS, around):
        yield replace(look, value=without_primary(look.value))


def _image(around: Surroundings) -> Iterator[Look]:
    from rolloutobs.detection.image import image_look

    image = around.settings.image or next(
        (look.value for look in _environment("image", around) if look.value), ""
    )
    yield image_look(image)


def _distribution_name(around: Surroundings) -> Iterator[Look]:
    yield around.distribution[0]


def _distribution_version(around: Surroundings) -> Iterator[Look]:
    yield around.distribution[1]


def _git(around: Surroundings) -> Iterator[Look]:
    from rolloutobs.detection.git import git_look

    home = around.environ.get("HOME", "")
    # An app that is started in the home folder lives there (the user of many containers has /app for a home).
    yield git_look(around.folder, "" if str(around.working_folder) == home else home)


def _track(around: Surroundings) -> Track:
    try:
        return TrackResolver.of(around.settings, around.environ).resolve(around.labels).track
    except Exception:
        return Track.NONE
