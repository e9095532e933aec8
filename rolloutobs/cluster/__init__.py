"""What a cluster says about its rollouts: the only place that reads the Kubernetes API.

Belongs here: objects of Kubernetes, Argo Rollouts and Flagger, and what follows from them. Does not belong
here: metrics of apps, and whether a version is good (`rolloutobs.analysis`).
"""
