"""What a report states, and how two of them differ, whoever parsed them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One mention: `side` "left", "right", "bilateral" or None; `zones` of "upper", "mid", "lower"; `severity` "small",
    "moderate", "large" or None; `text` is the clause it stands in. One of the past is `history`, and not present."""

    name: str
    present: bool
    uncertain: bool = False
    side: str | None = None
    zones: tuple[str, ...] = ()
    severity: str | None = None
    text: str = ""
    history: bool = False


@dataclass(frozen=True)
class Report:
    """What a report states. `view` "AP", "PA", "lateral" or None; `age` in years.

    `normal`: it calls the picture normal, or it denies findings and all of it was understood; and it states nothing
    abnormal, named or not. `unrecognised` holds the clauses in which nothing was understood, and `abnormal` those of
    them that state something abnormal which the vocabulary has no name for.
    """

    findings: tuple[Finding, ...] = ()
    view: str | None = None
    age: float | None = None
    age_group: str | None = None
    sex: str | None = None
    normal: bool = False
    unrecognised: tuple[str, ...] = ()
    abnormal: tuple[str, ...] = ()

    def present(self) -> tuple[str, ...]:
        """Names of findings stated as present, uncertain ones included, each once."""
        return tuple(dict.fromkeys(f.name for f in self.findings if f.present))

    def absent(self) -> tuple[str, ...]:
        """Names of findings that are only denied; those of the past are not."""
        denied = (f.name for f in self.findings if not f.present and not f.history)
        return tuple(dict.fromkeys(name for name in denied if name not in self.present()))


@dataclass(frozen=True)
class Wish:
    """What an edit is to do, in the model's words.

    target: prompt of the picture wanted.
    source: prompt of the image as it is.
    come: findings that come.
    go: findings that go.
    words: of the target, for what comes, or for health where everything goes. None where a finding goes and others
        stay, for then no word of the target speaks of the change.
    lateral: whether one of the reports speaks of a lateral view.
    """

    target: str
    source: str
    come: list[Finding]
    go: list[Finding]
    words: list[str]
    lateral: bool = False

    @property
    def findings(self) -> list[Finding]:
        """All whose places are edited: those that come, then those that go."""
        return [*self.come, *self.go]
