"""Runs at a URL: what is there when they end, go on, or are killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

import phantoms
import tiny
from commands import skiagraph
from skiagraph.engine import mirror
from skiagraph.engine.job import Done, open_run
from skiagraph.engine.mirror import CLAIM, mirrored, url_of
from skiagraph.errors import SkiagraphError
from skiagraph.progress import silent


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """This machine's folders of runs; setting it again makes another machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url(request):
    name = f"memory://{request.node.name}"
    yield name
    files = fsspec.filesystem("memory")
    if files.exists(f"/{request.node.name}"):
        files.rm(f"/{request.node.name}", recursive=True)


def listing(url):
    files, root = fsspec.url_to_fs(url)
    files.invalidate_cache()
    found = files.find(root) if files.exists(root) else []
    return {name.removeprefix(f"{root}/"): files.cat_file(name) for name in found}


def count(folder, upto, made, *, stop=None):
    """A job that writes a file for each number; `made` hears of each; it fails at `stop`."""

    def work(items):
        for number in items:
            if number == stop:
                raise RuntimeError("stopped")
            (folder / "files").mkdir(exist_ok=True)
            (folder / f"files/{number}.txt").write_text(f"number {number}")
            made.append(number)
            yield Done({"number": number}, files=(f"files/{number}.txt",))

    with open_run(folder, "count", {}, listen=silent) as run:
        run.each("counting", {str(n): n for n in range(upto)}, work)
        run.finish(counted=upto)


def test_what_names_a_url():
    assert url_of(Path("s3://bucket/some/run")) == "s3://bucket/some/run"
    assert url_of("gs://bucket/run") == "gs://bucket/run"
    assert url_of(Path("file:///tmp/run")) == "file:///tmp/run"
    assert all(url_of(Path(p)) is None for p in ("out/run", "/tmp/run", "C:/run", "a:b", "s3"))


def test_a_finished_run_is_at_the_url_and_nothing_is_left_here(url, cache):
    with mirrored(url) as folder:
        count(folder, 3, [])
    there = listing(url)
    assert set(there) == {"manifest.json", "journal.jsonl", "files/0.txt", "files/1.txt", "files/2.txt"}
    assert there["files/2.txt"] == b"number 2"
    assert json.loads(there["manifest.json"])["counted"] == 3
    assert not [p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_another_machine_goes_on_and_does_nothing_twice(url, cache, monkeypatch):
    made = []
    with pytest.raises(RuntimeError, match="stopped"), mirrored(url) as folder:
        count(folder, 5, made, stop=3)
    assert CLAIM not in listing(url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "other"))
    with mirrored(url) as folder:
        count(folder, 5, made)
    assert made == [0, 1, 2, 3, 4]
    assert len(listing(url)["journal.jsonl"].splitlines()) == 5


def test_what_a_dead_network_kept_here_goes_there_with_the_next_run(url, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    made, put = [], mirror._Mirror.send
    monkeypatch.setattr(mirror._Mirror, "send", refuse)
    with (
        pytest.raises(SkiagraphError, match=r"cannot be written; what was finished is in .*no network"),
        mirrored(url) as folder,
    ):
        count(folder, 4, made)
    assert "journal.jsonl" not in listing(url)
    monkeypatch.setattr(mirror._Mirror, "send", put)
    with mirrored(url) as folder:
        count(folder, 4, made)
    assert made == [0, 1, 2, 3]
    assert "files/3.txt" in listing(url)


def test_files_that_go_here_go_there(url):
    with mirrored(url) as folder:
        (folder / "a.txt").write_text("a")
        (folder / "b.txt").write_text("b")
    with mirrored(url) as folder:
        (folder / "a.txt").unlink()
        (folder / ".hidden.tmp").write_text("half")
    assert listing(url) == {"b.txt": b"b"}


def test_two_machines_at_one_url_are_refused_and_a_dead_one_is_not_waited_for(url, monkeypatch):
    with mirrored(url) as folder:
        with pytest.raises(SkiagraphError, match="another run is writing"), mirrored(url):
            pass
        files, root = fsspec.url_to_fs(url)
        claim = json.loads(files.cat_file(f"{root}/{CLAIM}"))
        assert claim["folder"] == str(folder)
    files.pipe_file(f"{root}/{CLAIM}", json.dumps({**claim, "host": "elsewhere", "seen": time.time()}).encode())
    with pytest.raises(SkiagraphError, match="elsewhere is writing to memory://"), mirrored(url):
        pass
    files.pipe_file(f"{root}/{CLAIM}", json.dumps({**claim, "host": "elsewhere", "seen": 0}).encode())
    with mirrored(url):
        pass


def test_a_run_that_was_taken_over_sends_nothing_more(url):
    files, root = fsspec.url_to_fs(url)

    def lose(folder):
        claim = json.loads(files.cat_file(f"{root}/{CLAIM}"))
        files.pipe_file(f"{root}/{CLAIM}", json.dumps({**claim, "host": "elsewhere"}).encode())
        count(folder, 2, [])

    with pytest.raises(SkiagraphError, match="another machine has taken over"), mirrored(url) as folder:
        lose(folder)
    assert set(listing(url)) == {CLAIM}


def test_finished_work_is_sent_while_the_run_goes_on_and_files_before_the_journal(url, monkeypatch):
    order = []
    monkeypatch.setattr(mirror, "LEAST_SECONDS", 0.05)
    files, _ = fsspec.url_to_fs(url)
    for name in ("put_file", "pipe_file"):
        original = getattr(type(files), name)

        def spy(self, a, b, *args, original=original, **kwargs):
            order.append(str(a) if isinstance(b, bytes) else str(b))
            return original(self, a, b, *args, **kwargs)

        monkeypatch.setattr(type(files), name, spy)
    with mirrored(url) as folder:
        count(folder, 1, [])
        for _ in range(100):
            if "journal.jsonl" in listing(url):
                break
            time.sleep(0.05)
        assert {"journal.jsonl", "files/0.txt", CLAIM} <= set(listing(url))
    names = [name.rsplit("/", 1)[-1] for name in order]
    assert names.index("0.txt") < names.index("journal.jsonl")


@pytest.mark.parametrize("bad", ["nowhere://x/run", "s3://"])
def test_urls_that_cannot_be_are_one_error(bad):
    with pytest.raises(SkiagraphError, match=r"is not reachable|cannot be read"), mirrored(bad):
        pass


KILLED = """
    import sys, time
    from pathlib import Path
    from skiagraph.engine import mirror
    from skiagraph.engine.job import Done, open_run
    from skiagraph.progress import silent
    mirror.LEAST_SECONDS = 0.05
    mirror.STALE_SECONDS = 0.0

    def work(items):
        for number in items:
            (folder / f"{number}.txt").write_text(f"number {number}")
            print(number, flush=True)
            time.sleep(float(sys.argv[2]))
            yield Done({"number": number}, files=(f"{number}.txt",))

    with mirror.mirrored(sys.argv[1]) as folder, open_run(folder, "count", {}, listen=silent) as run:
        run.each("counting", {str(n): n for n in range(40)}, work)
        run.finish(counted=40)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_url_on_another_machine(tmp_path):
    url = f"file://{tmp_path}/there"
    program = textwrap.dedent(KILLED)

    def start(machine, pause):
        env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / machine)}
        return subprocess.Popen(
            [sys.executable, "-c", program, url, str(pause)], env=env, stdout=subprocess.PIPE, text=True
        )

    first = start("one", 0.1)
    while len(listing(url).get("journal.jsonl", b"").splitlines()) < 5:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {json.loads(line)["item"] for line in listing(url)["journal.jsonl"].splitlines()}
    assert all(listing(url)[f"{item}.txt"] == f"number {item}".encode() for item in kept)
    second = start("two", 0)
    again = {line.strip() for line in second.stdout}
    assert second.wait() == 0
    assert again == {str(n) for n in range(40)} - kept
    there = listing(url)
    assert {f"{n}.txt" for n in range(40)} <= set(there)
    assert json.loads(there["manifest.json"])["counted"] == 40


@pytest.mark.slow
def test_verbs_write_to_an_s3_server(tmp_path, monkeypatch, capsys):
    """A server on this machine that speaks S3, a tiny model, and the command line."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3")
    files.mkdir("bucket")
    tiny.pipeline().save_pretrained(tmp_path / "model")
    generate = ("generate", "--report", "Cardiomegaly.", "--model", tmp_path / "model", "--steps", 1, "-n", 2)
    assert skiagraph(monkeypatch, *generate, "-o", "s3://bucket/made") == 0
    assert "s3://bucket/made/contact-sheet.png" in capsys.readouterr().out
    assert skiagraph(monkeypatch, *generate, "-o", tmp_path / "here") == 0
    there = listing("s3://bucket/made")
    assert there["00001.png"] == (tmp_path / "here/00001.png").read_bytes()
    assert skiagraph(monkeypatch, *generate, "-o", "s3://bucket/made") == 0
    Image.fromarray(phantoms.thorax(np.random.default_rng(0))[0]).save(tmp_path / "a.png")
    assert skiagraph(monkeypatch, "segment", tmp_path / "a.png", "-o", "s3://bucket/masks") in (0, 1)
    assert "masks.csv" in listing("s3://bucket/masks")
    assert skiagraph(monkeypatch, *generate, "-n", 3, "-o", "s3://bucket/made") == 2, "another run"
    assert "s3://bucket/made holds another run" in capsys.readouterr().err
    assert skiagraph(monkeypatch, *generate, "-o", "s3://no-such-bucket/made") == 2
    assert "no-such-bucket" in capsys.readouterr().err
    server.stop()
