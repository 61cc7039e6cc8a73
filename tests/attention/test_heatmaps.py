"""Heat maps of words, the same way for a U-ViT and for the U-Nets of SD 1.5 and SDXL (tiny, random weights)."""

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.heatmaps import capture_words, unit_maximum, word_attention, word_spans
from skiagraph.errors import ModelError


def unet(kind="sd"):
    """SD 1.5's layout, or SDXL's: linear projections, several transformer layers, added time and text embeddings."""
    torch.manual_seed(0)
    more = {} if kind == "sd" else {
        "use_linear_projection": True, "transformer_layers_per_block": (1, 2), "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 10,
    }  # fmt: skip
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12, attention_head_dim=(2, 4), norm_num_groups=4, **more,
    ).eval()  # fmt: skip


def run(model, latents, text, kind):
    more = {}
    if kind == "sdxl":
        more["added_cond_kwargs"] = {
            "text_embeds": torch.ones(len(latents), 10), "time_ids": torch.ones(len(latents), 6)
        }  # fmt: skip
    with torch.no_grad():
        return model(latents, 5, encoder_hidden_states=text, **more).sample


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 7), st.integers(1, 12), st.booleans())
def test_word_attention_equals_the_explicit_product(batch, heads, pixels, tokens, words, masked):
    generator = torch.Generator().manual_seed(pixels + 10 * tokens)
    query = torch.randn(batch, heads, pixels, 4, generator=generator)
    key = torch.randn(batch, heads, tokens, 4, generator=generator)
    spans = torch.rand(batch, words, tokens, generator=generator)
    mask = torch.ones(batch, 1, 1, tokens, dtype=torch.bool)
    if masked and tokens > 1:
        mask[:, ..., -1] = False
    logits = (query @ key.transpose(-1, -2) / 2).masked_fill(~mask, float("-inf"))
    explicit = torch.einsum("bhpt,bwt->bwp", logits.softmax(dim=-1), spans) / heads
    torch.testing.assert_close(word_attention(query, key, spans, mask), explicit, atol=1e-5, rtol=1e-5)
    additive = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    torch.testing.assert_close(word_attention(query, key, spans, additive), explicit, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_unet_maps_equal_explicit_softmax(kind):
    model = unet(kind)
    latents, text, spans = torch.randn(2, 4, 16, 24), torch.randn(2, 7, 12), torch.rand(2, 3, 7)
    seen = {}

    def keep(name):
        def hook(attn, args, kwargs):
            seen[name] = attn, (args[0] if args else kwargs["hidden_states"])

        return hook

    handles = [
        m.register_forward_pre_hook(keep(n), with_kwargs=True) for n, m in model.named_modules() if n.endswith("attn2")
    ]
    with capture_words(model, spans) as maps:
        run(model, latents, text, kind)
    for handle in handles:
        handle.remove()
    found = maps.mean()
    assert {f"{name}.processor" for name in seen} == set(found)
    for name, (attn, states) in seen.items():
        q, k = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (attn.to_q(states), attn.to_k(text)))
        explicit = (q @ k.transpose(-1, -2) * attn.scale).softmax(dim=-1).mean(dim=1)
        expected = torch.einsum("bpt,bwt->bwp", explicit, spans)
        got = found[f"{name}.processor"]
        assert got.shape[-1] * 2 == got.shape[-2] * 3, "a picture wider than high keeps its shape"
        torch.testing.assert_close(got.flatten(2), expected, atol=1e-5, rtol=1e-5)


def test_uvit_maps_equal_the_explicit_block_with_its_gradient():
    """Sums of softmax(QK^T) over a phrase's tokens, with padded text masked: what training grounds words by."""
    model = tiny.denoiser()
    latents, text, mask = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    mask[0, 5:] = False
    spans = torch.zeros(2, 2, 7)
    spans[:, 0, 1:3] = spans[0, 1, 4] = 1
    attn, seen = model.mid_block.attn, []
    handle = attn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with capture_words(model, spans, adapter_of(model).pointing) as maps:
        model(latents, 5, text, mask)
    handle.remove()
    states, attention_mask, layout = seen[0]
    q, k, _ = attn.project(states)
    logits = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~attention_mask, float("-inf"))
    block = logits.softmax(dim=-1).mean(dim=1)[:, layout.image_slice, layout.text_slice]
    explicit = torch.einsum("bpt,bwt->bwp", block, spans).unflatten(-1, (layout.height, layout.width))
    found = maps.mean()[adapter_of(model).pointing[0]]
    torch.testing.assert_close(found, explicit, atol=1e-6, rtol=1e-5)
    assert not found[1, 1].any(), "a phrase without tokens"
    gradients = [
        torch.autograd.grad(unit_maximum(m).square().sum(), attn.to_q.weight, retain_graph=True)[0]
        for m in (found, explicit)
    ]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["sd", "sdxl", "uvit"])
def test_capture_changes_nothing_and_reads_the_conditional_half(kind):
    model = tiny.denoiser() if kind == "uvit" else unet(kind)
    width = 16 if kind == "uvit" else 12
    latents = torch.randn(2, 4, 8, 8) if kind == "uvit" else torch.randn(2, 4, 16, 16)
    text, spans = torch.randn(2, 7, width), torch.rand(1, 2, 7)
    before, plain = dict(model.attn_processors), run(model, latents, text, kind)
    with capture_words(model, spans) as both:
        torch.testing.assert_close(run(model, latents, text, kind), plain)
    assert dict(model.attn_processors) == before
    with capture_words(model, spans) as alone:
        run(model, latents[1:], text[1:], kind)
    for layer, maps in alone.mean().items():
        torch.testing.assert_close(both.mean()[layer], maps, atol=1e-5, rtol=1e-4)


def test_means_run_over_forward_passes_and_layers_can_be_chosen():
    model, spans = tiny.denoiser(), torch.rand(1, 2, 7)
    inputs = [(torch.randn(1, 4, 8, 8), torch.randn(1, 7, 16)) for _ in range(3)]
    single = []
    for latents, text in inputs:
        with capture_words(model, spans, ["mid_block"]) as maps:
            run(model, latents, text, "uvit")
        single.append(maps.mean())
    with capture_words(model, spans, ["mid_block"]) as maps:
        for latents, text in inputs:
            run(model, latents, text, "uvit")
        together = maps.mean()
    assert list(together) == ["mid_block.attn.processor"]
    for layer, mean in together.items():
        torch.testing.assert_close(mean, torch.stack([s[layer] for s in single]).mean(dim=0))
    combined = maps.combined((20, 30))
    assert combined.shape == (1, 2, 20, 30)
    assert torch.allclose(combined.amax(dim=(-1, -2)), torch.ones(1, 2))
    maps.clear()
    with pytest.raises(ModelError, match="no attention was captured"):
        maps.combined((8, 8))


def test_passes_at_other_noise_levels_are_left_out():
    model, spans = tiny.denoiser(), torch.rand(1, 2, 7)
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 16)
    with torch.no_grad(), capture_words(model, spans, timesteps=(10, 20)) as maps:
        for step in (5, torch.tensor(15), torch.tensor([25])):
            model(latents, step, text)
    assert set(maps.counts.values()) == {1}
    with torch.no_grad(), capture_words(model, spans) as alone:
        model(latents, timestep=15, encoder_hidden_states=text)
    for layer, expected in alone.mean().items():
        torch.testing.assert_close(maps.mean()[layer], expected)


def test_words_to_weights(tokenizer):
    prompts = ["Large right pleural effusion and consolidation.", "The heart is enlarged: cardiomegaly, 2.5 cm."]
    spans = word_spans(tokenizer, prompts, [["effusion", "right"], ["cardiomegaly"]], 24)
    assert spans.shape == (2, 2, 24)
    torch.testing.assert_close(spans.sum(dim=-1), torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(ModelError, match="not in the prompt"):
        word_spans(tokenizer, prompts, [["fracture"], ["heart"]], 24)
    with pytest.raises(ModelError, match="cut off"):
        word_spans(tokenizer, prompts, [["effusion"], ["cardiomegaly"]], 6)


def test_models_and_batches_that_do_not_fit_are_named():
    with (
        pytest.raises(ModelError, match="no attention to text"),
        capture_words(torch.nn.Linear(1, 1), torch.ones(1, 1, 2)),
    ):
        pass
    plain = UNet2DModel(sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
                        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=4)  # fmt: skip
    with pytest.raises(ModelError, match="no attention to text"), capture_words(plain, torch.ones(1, 1, 2)):
        pass
    model = tiny.denoiser()
    with (
        pytest.raises(ModelError, match="no such attention layers"),
        capture_words(model, torch.ones(1, 1, 2), ["mid", "x"]),
    ):
        pass
    with pytest.raises(ModelError, match="3 images for the words of 2"), capture_words(model, torch.ones(2, 1, 7)):
        run(model, torch.randn(3, 4, 8, 8), torch.randn(3, 7, 16), "uvit")
