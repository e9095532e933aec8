"""What a request over HTTP leaves behind, whichever way it reaches the app.

Belongs here: attributes of server spans, HTTP metrics, ``Server-Timing``, what is decided once per app.
Does not belong here: the messages of ASGI and the calls of WSGI (`rolloutobs.asgi`, `rolloutobs.wsgi`).
"""
