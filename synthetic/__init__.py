"""Synthetic checks and loads against both tracks of a rollout: paired, marked, and proven who answered.

Belongs here: journeys through a real browser (Playwright), paired load (Locust), and their results as metrics
by app, version and track. Does not belong here: deciding about a rollout, which is the analysis, nor traffic
of real users.
"""
