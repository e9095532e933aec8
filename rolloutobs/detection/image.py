"""The version in the name of a container image."""

from __future__ import annotations

import re

from rolloutobs.detection.looks import Look

__all__ = ["image_look"]

# Source: OCI Distribution Specification, "Pulling manifests" (tags), and OCI Image Specification, "Digests".
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:([A-Fa-f0-9]{32,})")
SHORT_DIGEST_CHARS = 12
"""As ``docker images`` shows them."""


def image_look(image: str) -> Look:
    """Return the version that an image reference names: its tag, else the beginning of its digest.

    ``latest`` names no version: it is another one tomorrow.

    Args:
        image: ``registry:5000/team/shop:1.2.0@sha256:...``, any part but the name may be missing; empty: not
            known.
    """
    source = f"image {image}" if image else "image (ROLLOUTOBS_IMAGE, APP_IMAGE)"
    name, at, digest = image.strip().partition("@")
    # A colon before the last slash belongs to the registry's port.
    tag = name.rpartition("/")[2].partition(":")[2]
    if tag and tag != "latest" and _TAG.fullmatch(tag):
        return Look(source, tag)
    found = _DIGEST.fullmatch(digest) if at else None
    if found is not None:
        return Look(source, found[1][:SHORT_DIGEST_CHARS].lower())
    if tag == "latest":
        return Look(source, tag, "'latest' is another version tomorrow; use a tag of its own, or a digest")
    if not image:
        return Look(source)
    return Look(source, tag or digest, "it has no valid tag and no digest")
