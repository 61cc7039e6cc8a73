"""Free radiology report text to findings, side, zone, view, age and sex.

Rules in the manner of NegEx (Chapman et al. 2001): a finding is a phrase of `FINDINGS`; a trigger before or after it in
the same clause denies it or makes it uncertain; side, zone and size come from the words nearest to it. A finding that
is only possible is present and uncertain; one that is history, or gone, is absent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from skiagraph.errors import ReportError

FINDINGS: dict[str, str] = {
    "effusion": r"(?:pleural )?effusions?|pleural fluid|blunting of the [\w ]*costophrenic|costophrenic angles? blunting",
    "pneumothorax": r"pneumothora(?:x|ces)|hydropneumothorax",
    "cardiomegaly": r"cardiomegaly|cardiac enlargement|enlarge\w* (?:of the )?(?:heart|cardiac|cardiomediastinal)[\w ]*"
    r"|(?:heart|cardiac silhouette|heart size|cardiac size) (?:is |appears )?(?:\w+ ){0,2}?enlarged",
    "edema": r"o?edema|vascular congestion|pulmonary congestion",
    "consolidation": r"consolidations?|consolidative",
    "pneumonia": r"(?:broncho)?pneumonia|pneumonitis",
    "infiltration": r"infiltrat(?:es?|ion|ions)",
    "atelectasis": r"atelecta(?:sis|tic)|(?:lung|lobe|lobar) collapse",
    "emphysema": r"emphysema(?:tous)?|copd|chronic obstructive",
    "fibrosis": r"fibrosis|fibrotic",
    "mass": r"mass(?:es)?",
    "nodule": r"nodul(?:es?|ar)",
    "granuloma": r"granulomas?|granulomatous",
    "hernia": r"hernias?",
    "pleural_thickening": r"pleural thickening|thicken\w+ of the pleura",
    "hyperinflation": r"hyper-?inflat(?:ed|ion)|hyper-?expan(?:ded|sion)|large lung volumes|flatten\w+ (?:of the )?\w*diaphragms?",
    "fracture": r"fractures?",
    "tuberculosis": r"tuberculosis|tb",
    "interstitial": r"interstitial (?:\w+ ){0,2}?(?:disease|markings?|prominence|thickening|changes?|pattern)|reticula\w+"
    r"|bronchiectasis|peribronchial \w+",
    "scarring": r"scar(?:s|ring)?|cicatri\w+",
    "calcification": r"calcifi(?:ed|cations?)",
    "cavity": r"cavit(?:y|ies|ation|ary)",
    "spine": r"(?:dextro|levo)?scoliosis|kyphosis|osteophyt\w+|spondylosis|spurring|degenerative[\w ]*",
    "aorta": r"(?:tortuous|ectatic|unfolded|dilated|atheroscler\w+)(?: \w+)? aort\w+|tortuosity|ectasia|atheroscler\w+"
    r"|aort\w+ (?:is |appears )?(?:\w+ )?(?:tortuous|ectatic|dilated)",
    "device": r"(?:endotracheal|nasogastric|tracheostomy|feeding|chest|et|ng) tubes?|catheters?|picc|pacemakers?|pacer"
    r"|defibrillator|central (?:venous )?lines?|port-?a-?cath|sternotomy(?: wires)?|clips?|sutures?|stents?|hardware|prosthe\w+",
    "elevated_diaphragm": r"elevat\w+ (?:of )?(?:the )?(?:\w+ )?(?:hemi)?diaphragm|(?:hemi)?diaphragm \w* ?elevat\w+|eventration",
    "deformity": r"deformit(?:y|ies)|surgical changes|postsurgical",
    "covid19": r"covid(?:-?19)?(?: pneumonia)?",
    "opacity": r"(?:airspace|air space|lung|pulmonary|interstitial|patchy|focal|hazy|ground[- ]glass)? ?"
    r"(?:opacit(?:y|ies)|opacification|airspace disease|air space disease|densit(?:y|ies))",
    "lesion": r"lesions?",
}
"""Name of a finding to the words that state it. Not all are taught to a model; see `captions.finding_phrase`."""

CLEAR = r"\blungs? (?:\w+ ){0,3}?(?:are|is|appears?|remain) (?:\w+ ){0,2}?clear\b|\bclear lungs\b"
NORMAL_HEART = r"\b(?:heart|cardiac|cardio\w+)[\w ,]*?\b(?:normal|unremarkable|within normal limits|not enlarged)\b|\bnormal heart size\b"
NORMAL = (
    r"\bno (?:evidence of )?(?:acute|active) (?:\w+ ){0,3}?(?:disease|abnormalit\w+|process|findings?|pathology)\b"
    r"|\bno findings?\b|\bno acute\b|\bnormal (?:chest|study|exam\w*|radiograph|x-?ray|cxr)\b|\b(?:chest|study) (?:\w+ )?is normal\b"
    r"|\bunremarkable (?:chest|study)\b|^\W*normal\W*$|\bnegative (?:chest|study|exam\w*|for acute)\b"
)

DENIED_BEFORE = (
    r"\bno(?! (?:significant |interval |definite )?change)\b|\bwithout\b(?! change)|\bnegative for\b|\bfree of\b|\bclear of\b"
    r"|\babsence of\b|\bnot (?:show|demonstrate|identify)\b|(?<!not )(?<!incompletely )\bresol(?:ved|ution of)\b|\brather than\b|\bexclud(?:e|es|ed)\b|\bneither\b"
    r"|\bnor\b|\bhistory of\b|\bno longer (?:any|a|an)\b|\bstatus post\b|\bprior\b(?! (?:study|exam|film|radiograph|chest|comparison))"
)
DENIED_AFTER = (
    r"^[\w ,]*?\b(?:(?:is|are|was|were) (?:(?:not|no longer) (?:seen|identified|present|visible|visualized|evident)"
    r"|absent|excluded|unlikely|gone)|(?:has|have) (?!not\b|never\b|partially\b|incompletely\b|nearly\b)(?:\w+ )?"
    r"(?:resolved|cleared|disappeared)|(?:not|no longer) (?:seen|identified|present|visible)|unlikely)\b"
)
NOT_DENIED = r"\b(?:cannot|can not|not|cannot be) (?:be )?(?:entirely |completely )?exclud\w*"
UNCERTAIN = (
    r"\bpossib\w+|\bprobab\w+|\bmay\b|\bmight\b|\bcould\b|\bquestion\w*|\bsuspic\w+|\bsuspect\w*|\blikely\b|\bconcern\w*|\bversus\b|\bvs\b"
    rf"|{NOT_DENIED}"
)
SCOPE_END = (
    r"\bbut\b|\bhowever\b|\balthough\b|\bexcept\b|\bthere (?:is|are)\b|\bwith (?=\w+ (?:opacity|effusion))|\bwhich\b"
    r"|\bwith (?=(?:stable|unchanged|persist\w+|residual|improv\w+|worsen\w+|increas\w+|decreas\w+|chronic|old)\b)"
)
UNDERSTOOD = (
    r"\bcompar\w+|\bviews?\b|\bprojections?\b|\bfrontal\b|\blateral\b|\bnormal\b|\bunremarkable\b|\bintact\b|\bclear\b|\bstable\b"
    r"|\bunchanged\b|\bno (?:\w+ ){0,3}?(?:abnormalit\w+|changes?|disease|findings?)\b|\bwithin normal\b|\bnot enlarged\b"
    r"|\b(?:pa|ap|portable|supine|adult|child|male|female|man|woman|boy|girl|years?|months?)\b|\bimpression\b|\bexpanded\b"
    r"|^\W*no\b|\bwithout\b|\bmidline\b|\bimages?\b|^[\d\W]*chest$"
)
"""Words of clauses that state no finding and say nothing that is left out: normal things, views, comparisons, patients."""

ABBREVIATIONS = {
    "rul": "right upper lobe", "rml": "right middle lobe", "rll": "right lower lobe", "lul": "left upper lobe",
    "lll": "left lower lobe", "ptx": "pneumothorax", "bibasilar": "bilateral basilar", "biapical": "bilateral apical",
}  # fmt: skip
SIDES = {
    "bilateral": r"\bbilateral(?:ly)?\b|\bboth\b|\bright and left\b|\bleft and right\b|\bbases\b|\blungs\b(?= opacit)",
    "right": r"\bright(?:-sided)?\b(?! (?:heart|ventric|atri))",
    "left": r"\bleft(?:-sided)?\b(?! (?:heart|ventric|atri))",
}
ZONES = {
    "upper": r"\bupper\b|\bapic\w+\b|\bapex\b",
    "mid": r"\bmid(?:dle)?\b|\bmidzone\b|\blingula\w*\b|\bperihilar\b|\bhilar\b",
    "lower": r"\blower\b|\bbas(?:e|es|al|ilar)\b|\bcostophrenic\b",
}
SEVERITIES = {
    "small": r"\b(?:small|tiny|minimal|mild|mildly|trace|minor|slight|subtle|little)\b",
    "moderate": r"\bmoderate(?:ly)?\b",
    "large": r"\b(?:large|severe|massive|extensive|marked|markedly|big|dense|gross)\b",
}
CHILD_WORDS = r"\b(?:child|boy|girl|infant|toddler|neonate|newborn|p(?:a)?ediatric|baby)\b"
ADULT_WORDS = r"\b(?:adult|man|woman|elderly)\b"
CHILD_BELOW = 15.0


@dataclass(frozen=True)
class Finding:
    """One mention: `side` "left", "right", "bilateral" or None; `zones` of "upper", "mid", "lower"; `severity` "small",
    "moderate", "large" or None; `text` is the clause it stands in."""

    name: str
    present: bool
    uncertain: bool = False
    side: str | None = None
    zones: tuple[str, ...] = ()
    severity: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Report:
    """What a report states. `view` "AP", "PA", "lateral" or None; `age` in years; `normal`: it says so in words.

    `unrecognised` holds the clauses in which nothing was understood.
    """

    findings: tuple[Finding, ...] = ()
    view: str | None = None
    age: float | None = None
    age_group: str | None = None
    sex: str | None = None
    normal: bool = False
    unrecognised: tuple[str, ...] = ()

    def present(self) -> tuple[str, ...]:
        """Names of findings stated as present, uncertain ones included, each once."""
        return tuple(dict.fromkeys(f.name for f in self.findings if f.present))

    def absent(self) -> tuple[str, ...]:
        """Names of findings that are only denied."""
        return tuple(dict.fromkeys(f.name for f in self.findings if not f.present and f.name not in self.present()))


def parse_report(text: str) -> Report:
    """Read a free-text report in English.

    Raises:
        ReportError: not a string, or nothing but white space.
    """
    if not isinstance(text, str) or not text.strip():
        raise ReportError("the report is empty; write at least one finding, such as 'Small left pleural effusion.'")
    plain = _plain(text)
    by_clause = [(clause, _findings(clause)) for clause in _clauses(plain)]
    findings = [f for _, found in by_clause for f in found]
    known = rf"{UNDERSTOOD}|{NORMAL}"
    age = _age(plain)
    return Report(
        findings=tuple(findings),
        view=_view(text),
        age=age,
        age_group=_age_group(plain, age),
        sex=_sex(plain),
        normal=re.search(NORMAL, plain) is not None,
        unrecognised=tuple(c for c, found in by_clause if not found and len(c) > 1 and not re.search(known, c)),
    )


def _plain(text: str) -> str:
    """Lower case, one space, abbreviations written out."""
    words = " ".join(text.lower().split())
    return re.sub(r"\b(?:" + "|".join(ABBREVIATIONS) + r")\b", lambda m: ABBREVIATIONS[m[0]], words)


def _clauses(text: str) -> list[str]:
    sentences = re.split(r"(?<!\d)[.;:!?](?!\d)|\n", text)
    return [c.strip() for s in sentences for c in re.split(SCOPE_END, s) if c and c.strip()]


def _findings(clause: str) -> list[Finding]:
    """Mentions in one clause, in their order; a word that two findings claim goes to the first in the table."""
    spans: list[tuple[int, int, str]] = []
    for name, pattern in FINDINGS.items():
        for match in re.finditer(rf"\b(?:{pattern.strip()})\b", clause):
            if not any(match.start() < end and start < match.end() for start, end, _ in spans):
                spans.append((*match.span(), name))
    spans.sort()
    found = [_finding(clause, spans, index) for index in range(len(spans))]
    if re.search(CLEAR, clause):
        found += [Finding(name, present=False, text=clause) for name in ("opacity", "consolidation")]
    if re.search(NORMAL_HEART, clause) and not any(f.name == "cardiomegaly" for f in found):
        found.append(Finding("cardiomegaly", present=False, text=clause))
    return found


def _finding(clause: str, spans: list[tuple[int, int, str]], index: int) -> Finding:
    start, end, name = spans[index]
    before, after = clause[:start], clause[end:]
    hedged = re.search(NOT_DENIED, clause) is not None
    denied = bool(re.search(DENIED_BEFORE, before) or re.search(DENIED_AFTER, after)) and not hedged
    nearby = _nearby(clause, spans, index)
    return Finding(
        name=name,
        present=not denied,
        uncertain=not denied and re.search(UNCERTAIN, clause) is not None,
        side=_side(nearby) or _side(clause[: spans[0][0]]),
        zones=_named(ZONES, nearby),
        severity=next(iter(_named(SEVERITIES, nearby)), None),
        text=clause,
    )


def _nearby(clause: str, spans: list[tuple[int, int, str]], index: int) -> str:
    """The clause from the finding before to the finding after, where modifiers of this one stand."""
    begin = spans[index - 1][1] if index else 0
    following = spans[index + 1][0] if index + 1 < len(spans) else len(clause)
    between = clause[spans[index][1] : following]
    if index + 1 < len(spans):  # after "and" or a comma, words belong to the next finding
        between = re.split(r"\band\b|,|\bor\b", between)[0]
    return clause[begin : spans[index][1]] + between


def _side(words: str) -> str | None:
    sides = _named(SIDES, words)
    if "bilateral" in sides or {"left", "right"} <= set(sides):
        return "bilateral"
    return sides[0] if sides else None


def _named(table: dict[str, str], words: str) -> tuple[str, ...]:
    return tuple(name for name, pattern in table.items() if re.search(pattern, words))


def _view(text: str) -> str | None:
    if re.search(r"\bP\.?A\.?\b|\bposteroanterior\b|\bpa view\b", text):
        return "PA"
    if re.search(r"\bA\.?P\.?\b|\b[Aa]nteroposterior\b|\b[Pp]ortable\b|\bap view\b|\b[Ss]upine\b", text):
        return "AP"
    return "lateral" if re.search(r"\blateral (?:view|chest|radiograph)\b", text.lower()) else None


def _age(text: str) -> float | None:
    match = re.search(
        r"\b(\d{1,3})[- ]?(years?|yrs?|months?|weeks?|days?)[- ]?(?:old\b|(?=(?:male|female|man|woman|boy|girl)\b))"
        r"|\b(?:aged? |(?=\d{1,3} ?y/?o\b))(\d{1,3})\b",
        text,
    )
    if not match:
        sexed = re.search(r"\b(\d{1,3})[ -]?[mf]\b", text)
        return float(sexed[1]) if sexed else None
    if match[3]:
        return float(match[3])
    return float(match[1]) / {"y": 1, "m": 12, "w": 52, "d": 365}[match[2][0]]


def _age_group(text: str, age: float | None) -> str | None:
    if age is not None:
        return "child" if age < CHILD_BELOW else "adult"
    if re.search(CHILD_WORDS, text):
        return "child"
    return "adult" if re.search(ADULT_WORDS, text) else None


def _sex(text: str) -> str | None:
    if re.search(r"\b(?:woman|female|girl)\b|\b\d{1,3}[ -]?f\b", text):
        return "female"
    return "male" if re.search(r"\b(?:man|male|boy)\b|\b\d{1,3}[ -]?m\b", text) else None
