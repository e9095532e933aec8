"""Signals and how they leave the process: cells, metrics, traces, logs, propagation.

Belongs here: what records and renders. Does not belong here: ASGI or WSGI, settings, anything that judges.
"""
