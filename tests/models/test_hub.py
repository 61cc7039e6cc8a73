"""Models by Hub id: which files are wanted, and a whole run against a Hub on this machine."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

import tiny
from skiagraph.errors import ModelError
from skiagraph.models.hub import hub_folder, is_hub_id, wanted_files
from skiagraph.models.registry import model_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"

STABLE_DIFFUSION = [
    "README.md", "model_index.json", "v1-5-pruned.safetensors", "v1-5-pruned.ckpt",
    "safety_checker/config.json", "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
    "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors",
]  # fmt: skip
"""Names as Stable Diffusion's repository has them, but for an autoencoder in half precision alone."""


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub's interface as its client asks for, over the folders below `root`."""

    def __init__(self, root, *args):
        self.root = root
        super().__init__(*args)

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *args):
        pass

    def _answer(self, *, body):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            listing = self._listing(self.root / parts[2] / parts[3], tree="tree" in parts)
            self._send(listing, body, {"Content-Type": "application/json"})
        else:
            owner, name, _, _, *rest = parts
            self._send(self._content(self.root.joinpath(owner, name, *rest)), body, {})

    def _listing(self, folder, *, tree):
        if not folder.is_dir():
            return None
        files = [
            {"type": "file", "path": str(p.relative_to(folder)), "size": p.stat().st_size, "oid": "0"}
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        ]
        return json.dumps(files if tree else {"id": "x", "sha": COMMIT}).encode()

    def _content(self, path):
        return path.read_bytes() if path.is_file() else None

    def _send(self, content, body, headers):
        self.send_response(200 if content is not None else 404)
        if content is None:
            headers = {"X-Error-Code": "RepoNotFound"}
        else:
            headers |= {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        for name, value in {**headers, "Content-Length": str(len(content or b""))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and content is not None:
            self.wfile.write(content)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Address of a Hub that has a tiny Stable Diffusion as `lab/tiny`, and one without safetensors as `lab/pickled`."""
    root = tmp_path_factory.mktemp("hub")
    tiny.stable_diffusion().save_pretrained(root / "lab/tiny")
    (root / "lab/tiny/pruned.safetensors").write_bytes(b"not wanted")
    (root / "lab/pickled").mkdir()
    (root / "lab/pickled/config.json").write_text("{}")
    (root / "lab/pickled/model.bin").write_bytes(b"")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _generate(hub: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable, "-m", "skiagraph", "generate", "--report", "Cardiomegaly.", "--steps", "1", *arguments,
    ]  # fmt: skip
    return subprocess.run(
        command, env={**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(cache)}, capture_output=True, text=True
    )


def test_files_that_a_published_folder_needs():
    kept = wanted_files(STABLE_DIFFUSION)
    assert [name for name in kept if name.endswith(".safetensors")] == [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert {"model_index.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json"} <= set(kept)
    assert not any("safety_checker" in name or name.endswith((".bin", ".ckpt")) for name in kept)
    assert not any(name.endswith(".safetensors") for name in wanted_files(STABLE_DIFFUSION, weights=False))
    shards = ["config.json", "model.safetensors.index.json", *(f"model-0000{k}-of-00002.safetensors" for k in (1, 2))]
    assert wanted_files(shards) == sorted(shards)


def test_names_that_are_hub_ids():
    assert is_hub_id("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert not any(map(is_hub_id, ("cxr-256", "/tmp/model", "runs/mine/model", "a//b", "../model")))


def test_nothing_is_fetched_unless_asked(tmp_path, no_network, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for ask in (model_folder, hub_folder):
        with pytest.raises(
            ModelError, match=r"'lab/tiny' is neither a folder nor in this machine's Hub cache; --allow"
        ):
            ask("lab/tiny")


@pytest.mark.slow
def test_a_model_comes_once_when_asked_and_is_then_here(hub, tmp_path):
    refused = _generate(hub, tmp_path / "cache", "--model", "lab/tiny", "-o", str(tmp_path / "out"))
    assert refused.returncode == 2
    assert "--allow-download fetches it" in refused.stderr
    assert not (tmp_path / "out").exists()
    asked = _generate(hub, tmp_path / "cache", "--model", "lab/tiny", "--allow-download", "-o", str(tmp_path / "out"))
    assert asked.returncode == 0, asked.stderr
    stored = [p.name for p in (tmp_path / "cache").rglob("*.safetensors")]
    assert stored
    assert "pruned.safetensors" not in stored
    here = _generate("http://127.0.0.1:9", tmp_path / "cache", "--model", "lab/tiny", "-o", str(tmp_path / "again"))
    assert here.returncode == 0, here.stderr
    assert (tmp_path / "out/00000.png").read_bytes() == (tmp_path / "again/00000.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "said"), [("lab/absent", "does not come from the Hub"), ("lab/pickled", "no weights in safetensors")]
)
def test_what_the_hub_does_not_have_is_one_line(hub, tmp_path, model, said):
    ended = _generate(hub, tmp_path / "cache", "--model", model, "--allow-download", "-o", str(tmp_path / "out"))
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
