"""What is wrong with the telemetry of an app, and what it costs: the parts of ``rolloutobs doctor``.

Belongs here: reading one exposition or one Prometheus and saying what to change. Does not belong here:
whether one version is worse than another (`rolloutobs.analysis`), arguments and terminals (`rolloutobs.cli`).
"""
