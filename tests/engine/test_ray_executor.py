"""The Ray executor on a real cluster of two nodes on this machine."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from skiagraph.engine.executor import HERE
from skiagraph.engine.job import open_run
from skiagraph.engine.ray_executor import Ray
from skiagraph.errors import ModelError, ReportError, SkiagraphError
from skiagraph.progress import silent
from squares import Squares

ray = pytest.importorskip("ray")

ITEMS = {str(n): n for n in range(24)}


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes, each with room for one worker."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    made.second = made.add_node(num_cpus=1, num_gpus=0, object_store_memory=80 * 2**20)
    made.wait_for_nodes()
    yield made
    made.shutdown()


def run(folder, executor, **how):
    with executor.start(partial(Squares, folder, **how)) as work, open_run(folder, "square", {}, listen=silent) as job:
        outcome = job.each("squaring", ITEMS, work, batch_size=2)
        return job.finish(rows=[kept.with_hash() for kept in outcome.kept.values()])


def workers(folder):
    return [name for name in os.listdir(folder / "workers") if name.isdigit()] if (folder / "workers").is_dir() else []


@pytest.mark.slow
def test_an_actor_and_then_a_node_are_lost_and_nothing_else(cluster, tmp_path):
    alone = run(tmp_path / "a", HERE)
    folder = tmp_path / "b"

    def lose_a_node():
        while len(workers(folder)) < 3:  # two actors, and the one in place of that which was killed
            time.sleep(0.05)
        done = len(list(folder.glob("*.txt")))
        cluster.remove_node(cluster.second, allow_graceful=False)
        return done

    with ThreadPoolExecutor(1) as other:
        lost = other.submit(lose_a_node)
        manifest = run(folder, Ray(2, cluster.address), deadly=(3,), pause=2)
        assert lost.result(timeout=60) < len(ITEMS), "the node was lost in the middle of the run"
    assert manifest["rows"] == alone["rows"]
    journal = [json.loads(line)["item"] for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert sorted(journal) == sorted(ITEMS), "nothing is lost, and nothing journalled twice"
    for number in ITEMS:
        assert (folder / f"{number}.txt").read_bytes() == (tmp_path / "a" / f"{number}.txt").read_bytes()


@pytest.mark.slow
def test_errors_arrive_as_they_were_raised(cluster, tmp_path):
    with pytest.raises(ModelError, match="no such model") as caught:
        run(tmp_path / "o", Ray(2, cluster.address), unbuildable=ModelError("no such model"))
    assert str(caught.value) == "no such model"
    assert not (tmp_path / "o").exists()
    with pytest.raises(ReportError) as caught:
        run(tmp_path / "o", Ray(1, cluster.address), wrong=1)
    assert str(caught.value) == "1 is wrong"
    with pytest.raises(SkiagraphError, match="the Ray cluster has no GPU"):
        run(tmp_path / "p", Ray(0, cluster.address))


def test_a_cluster_that_is_not_there_is_told():
    with (
        pytest.raises(SkiagraphError, match=r"no Ray cluster is reached at 127\.0\.0\.1:1: .*refused"),
        Ray(1, "127.0.0.1:1").start(list),
    ):
        pass
