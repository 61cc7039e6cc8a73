import pytest

from skiagraph import progress as module
from skiagraph.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_half_minute_with_an_estimate(clock, capsys):
    with progress("drawing", 50, done=10) as update:
        update(11)
        clock[0] += 60
        update(20, "loss 0.5")
        clock[0] += 29
        update(30)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.split("\n") == ["drawing: 20 of 50, about 3.0 min left, loss 0.5", ""]


def test_what_an_earlier_run_did_is_no_news(clock, capsys):
    with progress("drawing", 50, done=10) as update:
        clock[0] += 60
        update(10)
    assert capsys.readouterr().err == ""


def test_quiet_work_says_nothing(clock, capsys):
    with progress("drawing", 50, quiet=True) as update:
        clock[0] += 60
        update(20)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("drawing", 50) as update:
        update(20, "loss 0.5")
    shown = capsys.readouterr().err
    assert all(part in shown for part in ("drawing", "20/50", "loss 0.5"))
