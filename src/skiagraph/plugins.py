"""What other packages bring, by entry points: `name = "package.module:object"` in a group of `GROUPS`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

GROUPS = {
    "skiagraph.models": "classes of networks, diffusers' ModelMixin, by the names that their `config.json` has",
    "skiagraph.domains": "`Domain` objects",
    "skiagraph.layouts": "readers of data sets: a folder to a list of `skiagraph.data.layouts.case.Case`",
    "skiagraph.organs": "finders of organs: a square radiograph to masks by name, as `skiagraph.pipelines.organs`",
}
"""Groups, and what their objects are."""


def brought(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name; nothing is imported before one is loaded."""
    return {point.name: point for point in entry_points(group=group)}
