"""What recording heat maps costs: time beside plain sampling, memory beside keeping every attention map.

    python benchmarks/heatmap_cost.py -o out/heatmaps

Three ways through the same steps of the same random U-Nets (and a U-ViT) with classifier-free guidance: plain; ours,
three words in every layer; and a processor that keeps each conditional softmax(QK^T), as prompt-to-prompt's store does.
Ways alternate within a round, on one thread; ratios of processor time are per round. Memory is the peak of what torch
has allocated during the steps, above the plain way's peak. Ends in two minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from machine import machine
from skiagraph.attention.heatmaps import capture_words
from skiagraph.evaluation.result import bootstrap
from skiagraph.files import write_json
from skiagraph.models.uvit import UViT2DModel

TOKENS, WORDS = 77, 3


def main() -> None:
    """Run every network, print the table and write results.json."""
    args = _arguments()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = {name: _measure(make(), args) for name, make in NETWORKS.items()}
    for name, row in rows.items():
        print(
            f"{name}: time over plain sampling: ours {row['ours']['ratio']:.2f} ({row['ours']['low']:.2f} to "
            f"{row['ours']['high']:.2f}), every map {row['every map']['ratio']:.2f}; extra "
            f"memory of ours over every map: "
            f"{row['memory']:.3f} ({row['ours']['bytes']:,} of {row['every map']['bytes']:,} bytes)"
        )
    write_json(
        args.output / "results.json", {"steps": args.steps, "rounds": args.rounds, "machine": machine(), "rows": rows}
    )


def _measure(model: nn.Module, args: argparse.Namespace) -> dict:
    c = model.config
    latents = torch.randn(2, c.in_channels, c.sample_size, c.sample_size)
    width = c.text_dim if isinstance(model, UViT2DModel) else c.cross_attention_dim
    text, spans = torch.randn(2, TOKENS, width), torch.rand(1, WORDS, TOKENS)
    ways: dict[str, Callable] = {
        "plain": lambda: nullcontext(None),
        "ours": lambda: capture_words(model, spans),
        "every map": lambda: _every_map(model),
    }

    def sample(way: Callable) -> None:
        with torch.no_grad(), way():
            for step in range(args.steps):
                model(latents, 10 * step, encoder_hidden_states=text)

    peaks = {name: _peak_memory(lambda way=way: sample(way)) for name, way in ways.items()}  # warms up, too
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            start = time.process_time()
            sample(way)
            times[name].append(time.process_time() - start)
    plain, extra = np.array(times["plain"]), {name: peak - peaks["plain"] for name, peak in peaks.items()}
    result: dict = {"parameters": sum(p.numel() for p in model.parameters())}
    for name in ("ours", "every map"):
        ratios = np.array(times[name]) / plain
        low, high = bootstrap(np.median, ratios)
        result[name] = {"ratio": float(np.median(ratios)), "low": low, "high": high, "bytes": extra[name]}
    return result | {"memory": extra["ours"] / extra["every map"]}


def _peak_memory(run: Callable[[], None]) -> int:
    """Most bytes that torch had allocated at a time while it ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]).tolist())


@contextmanager
def _every_map(model: nn.Module):
    """Keep each conditional attention map, head by head, as prompt-to-prompt's attention store does."""
    store: list[Tensor] = []
    before = dict(model.attn_processors)
    seeing = [n for n in before if isinstance(model, UViT2DModel) or n.endswith("attn2.processor")]
    model.set_attn_processor({**before, **{n: _Keeper(store) for n in seeing}})
    try:
        yield store
    finally:
        model.set_attn_processor(before)


class _Keeper:
    def __init__(self, store: list[Tensor]) -> None:
        self.store = store

    def __call__(self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states=None, *args, **kwargs) -> Tensor:
        if hasattr(attn, "project"):  # a U-ViT's: (attn, states, mask, layout)
            q, k, v = attn.project(hidden_states)
            weights, layout = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1), args[0]
            self.store.append(weights[len(weights) // 2 :, :, layout.image_slice, layout.text_slice].clone())
            return attn.merge(weights @ v)
        text = encoder_hidden_states
        q, k, v = (attn.head_to_batch_dim(x) for x in (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)))
        weights = attn.get_attention_scores(q, k)
        self.store.append(weights[len(weights) // 2 :].clone())
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(weights @ v)))


def _unet(widths: tuple[int, ...], size: int) -> UNet2DConditionModel:
    deep = len(widths)
    return UNet2DConditionModel(
        sample_size=size, block_out_channels=widths, layers_per_block=2, cross_attention_dim=768, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * (deep - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (deep - 1), norm_num_groups=16,
    ).eval()  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "U-Net, tiny": lambda: _unet((32, 64), 32),
    "U-Net, mid-size": lambda: _unet((64, 128, 192), 32),
    "U-ViT XS/2": lambda: UViT2DModel.from_preset("XS/2", text_tokens=TOKENS).eval(),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/heatmaps"))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
