"""The gate over HTTP: verdicts of many workloads, webhooks for Flagger, and a page that shows them.

Belongs here: what is answered to whom, which rollout evidence is of, tokens, pages. Does not belong here: how
counters are read and judged (`rolloutobs.analysis`), files and options (`rolloutobs.cli`), objects of
Kubernetes (`rolloutobs.cluster`).
"""
