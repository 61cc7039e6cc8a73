"""What an edit is to do: two reports, of the picture wanted and of the image as it is, compared."""

from __future__ import annotations

from dataclasses import replace

from skiagraph.data.chest.captions import finding_phrase, report_prompt
from skiagraph.data.chest.reports import parse_report
from skiagraph.data.reports import Report, Wish
from skiagraph.errors import ReportError


def read_wish(to: str, source: str = "") -> Wish:
    """Compare two reports, of the picture wanted and of the image as it is.

    What the source says of view, age and sex holds for the target too, unless it says otherwise. A source that names no
    finding is taken for a normal chest, which is what an added finding leads away from.

    Raises:
        ReportError: neither names a finding that the model was taught, or both name the same ones.
    """
    wished = parse_report(to)
    was = parse_report(source) if source.strip() else Report()
    wanted, had = ({p: f for f in r.findings if f.present and (p := finding_phrase(f))} for r in (wished, was))
    if not wanted and not had:
        raise ReportError(
            f"neither {to!r} nor --from {source!r} names a finding the model was taught; say what to add, or in --from "
            "what to take away"
        )
    come, go = ({p: f for p, f in some.items() if p not in others} for some, others in ((wanted, had), (had, wanted)))
    if not come and not go:
        raise ReportError(f"{to!r} and --from {source!r} name the same findings; nothing would change")
    kept = {name: getattr(wished, name) or getattr(was, name) for name in ("view", "age_group", "sex")}
    wished, was = (r if some else replace(r, normal=True) for r, some in ((wished, wanted), (was, had)))
    target = report_prompt(replace(wished, **kept))
    words = list(come) if wanted else [target.split(". ")[0]]
    lateral = "lateral" in (wished.view, was.view)
    return Wish(target, report_prompt(was), list(come.values()), list(go.values()), words, lateral)
