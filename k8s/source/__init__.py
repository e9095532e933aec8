"""The code from which `k8s/rules` and `k8s/dashboards` are written: ``python -m k8s.source``.

Belongs here: rules, alerts and panels as data, and the writing of their files. Names of metrics come from
`rolloutobs.semconv`, or from `rolloutobs.foreign` where another project exposes them.
"""
