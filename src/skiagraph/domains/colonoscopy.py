"""Colonoscopy frames: words of polyps in view, which `skiagraph.data.polyps` measures for painting."""

from __future__ import annotations

from dataclasses import replace

from skiagraph.data.polyps import polyp_language
from skiagraph.domains.from_file import domain_of_fields

COLONOSCOPY = replace(
    domain_of_fields({"name": "colonoscopy", "words": {"polyp": ["polyp"]}, "regions": ["polyp"], "colour": True}, ""),
    stored="colonoscopy",
    language=polyp_language,
)
