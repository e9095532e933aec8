"""The exceptions of rolloutobs.

    RolloutobsError
      ConfigurationError      a setting, an option or a policy file is wrong: raised at start-up, never later
        SettingError          one setting of a policy is wrong; knows which
        MissingExtraError     a command needs an extra that is not installed
        StateError            a saved state is damaged, or of another policy or version
      SourceError             metrics could not be read: the analysis holds, it never fails or passes on this
      ClusterError            the Kubernetes API could not be read
      GrafanaError            an annotation could not be written; knows whether it is worth another try
      BeaconError             a browser's body cannot be used; carries the reason that is counted

A message says what is wrong, shows the value, and says what to do.
"""

__all__ = [
    "BeaconError",
    "ClusterError",
    "ConfigurationError",
    "GrafanaError",
    "MissingExtraError",
    "RolloutobsError",
    "SettingError",
    "SourceError",
    "StateError",
]


class RolloutobsError(Exception):
    """The root of all exceptions that rolloutobs raises on purpose."""


class ConfigurationError(RolloutobsError):
    """A setting, an option or a policy file is wrong."""


class SettingError(ConfigurationError):
    """One setting of a file is wrong.

    Attributes:
        setting: dotted path of the setting, from the owner that complains; of a file, from its top.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


class MissingExtraError(ConfigurationError):
    """A command needs an extra that is not installed; the message is the ``pip install`` line."""

    def __init__(self, extra: str, needed_for: str, module: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {module!r}, which is not installed: "
            f"pip install 'rolloutobs[{extra}]'"
        )
        self.extra = extra


class StateError(ConfigurationError):
    """A saved state cannot be resumed: it is damaged, of another policy, or of another version's format."""


class SourceError(RolloutobsError):
    """Metrics could not be read from a target or from Prometheus."""


class ClusterError(RolloutobsError):
    """The Kubernetes API could not be read."""


class GrafanaError(RolloutobsError):
    """Grafana has not taken an annotation.

    Attributes:
        is_passing: whether the same may be taken a moment later.
        after_seconds: how long Grafana wants to be left alone before; 0: it does not say.
        is_unauthorized: whether other credentials would do.
    """

    def __init__(
        self,
        message: str,
        *,
        is_passing: bool = False,
        after_seconds: float = 0.0,
        is_unauthorized: bool = False,
    ) -> None:
        super().__init__(message)
        self.is_passing = is_passing
        self.after_seconds = after_seconds
        self.is_unauthorized = is_unauthorized


class BeaconError(RolloutobsError):
    """A body posted by a browser cannot be used.

    Attributes:
        reason: one word of a closed set, used as a label value (``rum_beacons_total{outcome}``).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
