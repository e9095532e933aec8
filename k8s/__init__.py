"""What is applied to a cluster, and the code that some of it is made from.

Belongs here: manifests, rules, dashboards, and `k8s.source`, which writes the last two. Nothing here is part
of the installed package.
"""
