"""Kubernetes manifests for a user's own app: the parts of ``rolloutobs render``.

Belongs here: reading the files of `k8s/`, which the wheel carries, and changing the example's names, images
and addresses in them. Does not belong here: a second copy of any manifest, talking to a cluster, arguments
and terminals (`rolloutobs.cli`).
"""
