"""``python -m k8s.source``: write the generated rules and dashboards."""

from k8s.source.files import write

write()
