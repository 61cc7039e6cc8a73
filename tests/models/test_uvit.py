import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.errors import ModelError
from skiagraph.models.uvit import PRESETS, FusedJointAttnProcessor, TokenLayout, UViT2DModel


def tiny(**overrides):
    torch.manual_seed(0)
    sizes = {
        "sample_size": 8, "in_channels": 3, "patch_size": 2, "hidden_size": 16, "depth": 2, "num_heads": 2,
        "text_dim": 6, "text_tokens": 5,
    }  # fmt: skip
    return UViT2DModel(**{**sizes, **overrides}).eval()


def inputs(batch=2, tokens=5):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 3, 8, 8, generator=generator),
        torch.arange(batch) * 100,
        torch.randn(batch, tokens, 6, generator=generator),
    )


def test_output_has_the_shape_of_the_sample():
    sample, t, text = inputs()
    assert tiny()(sample, t, text).sample.shape == sample.shape
    assert tiny()(sample, t, text, return_dict=False)[0].shape == sample.shape


@settings(max_examples=10, deadline=None)
@given(patch=st.sampled_from([1, 2, 4]), batch=st.integers(1, 3), tokens=st.integers(0, 5))
def test_any_patch_batch_and_text_length(patch, batch, tokens):
    sample, t, text = inputs(batch, tokens)
    assert tiny(patch_size=patch)(sample, t, text).sample.shape == sample.shape


def test_padded_text_has_no_influence():
    model = tiny()
    sample, t, text = inputs()
    mask = torch.tensor([[True, True, False, False, False]] * 2)
    changed = text.clone()
    changed[:, 2:] = 99.0
    torch.testing.assert_close(model(sample, t, text, mask).sample, model(sample, t, changed, mask).sample)
    assert not torch.allclose(model(sample, t, text).sample, model(sample, t, changed).sample)


def test_masked_text_equals_shorter_text():
    model = tiny()
    sample, t, text = inputs()
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    torch.testing.assert_close(
        model(sample, t, text, mask).sample, model(sample, t, text[:, :3]).sample, atol=1e-5, rtol=1e-4
    )


def test_a_mask_of_no_text_tokens_is_no_mask():
    model = tiny()
    sample, t, text = inputs(tokens=0)
    mask = torch.ones(2, 0, dtype=torch.bool)
    torch.testing.assert_close(model(sample, t, text, mask).sample, model(sample, t, text).sample)


def test_every_parameter_gets_a_gradient():
    model = tiny()
    model(*inputs()).sample.square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_fused_attention_equals_brute_force_softmax():
    class BruteForce:
        def __call__(self, attn, hidden_states, attention_mask, layout):
            q, k, v = attn.project(hidden_states)
            logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if attention_mask is not None:
                logits = logits.masked_fill(~attention_mask, float("-inf"))
            return attn.merge(logits.softmax(-1) @ v)

    model = tiny()
    mask = torch.tensor([[True, False, True, True, False]] * 2)
    fused = model(*inputs(), mask).sample
    model.set_attn_processor(BruteForce())
    torch.testing.assert_close(model(*inputs(), mask).sample, fused, atol=1e-5, rtol=1e-4)


def test_processors_are_named_and_set_one_by_one():
    model = tiny()
    assert list(model.attn_processors) == [
        "in_blocks.0.attn.processor", "mid_block.attn.processor", "out_blocks.0.attn.processor",
    ]  # fmt: skip
    mine = FusedJointAttnProcessor()
    model.set_attn_processor({"mid_block.attn.processor": mine})
    assert [p is mine for p in model.attn_processors.values()] == [False, True, False]
    with pytest.raises(ModelError, match="no such attention layers"):
        model.set_attn_processor({"nowhere.processor": mine})


def test_layout_slices_are_adjacent_and_cover_the_sequence():
    layout = TokenLayout(text=5, height=4, width=3)
    assert (layout.text_slice, layout.image_slice) == (slice(1, 6), slice(6, 18))


def test_gradient_checkpointing_gives_the_same_gradients():
    plain, saving = tiny(), tiny()
    saving.enable_gradient_checkpointing()
    for model in (plain, saving):
        model(*inputs()).sample.square().mean().backward()
    torch.testing.assert_close(plain.pos_embed.grad, saving.pos_embed.grad)


def test_round_trip_through_safetensors(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    torch.testing.assert_close(UViT2DModel.from_pretrained(tmp_path)(*inputs()).sample, model(*inputs()).sample)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_with_the_papers_sizes(name):
    with torch.device("meta"):
        model = UViT2DModel.from_preset(name, sample_size=32)
    assert {k: model.config[k] for k in PRESETS[name]} == PRESETS[name]
    assert len(model.in_blocks) + 1 + len(model.out_blocks) == PRESETS[name]["depth"] + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t, c: (s[:, :, :4], t, c), "latents are"),
        (lambda s, t, c: (s, t, torch.zeros(2, 6, 6)), "text states are"),
        (lambda s, t, c: (s, t, torch.zeros(2, 5, 7)), "text states are"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    with pytest.raises(ModelError, match=message):
        tiny()(*change(*inputs()))


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ModelError, match="must divide"):
        tiny(hidden_size=15)
    with pytest.raises(ModelError, match="unknown U-ViT preset"):
        UViT2DModel.from_preset("XXL")


@pytest.mark.parametrize("patch", [1, 2])
def test_convolutional_ends_see_neighbours_across_patches(patch):
    """A moved latent pixel changes the prediction beside it also where no token tells of it."""
    model = tiny(patch_size=patch, conv_channels=8)
    sample, timestep, text = inputs()
    assert model(sample, timestep, text).sample.abs().max() == 0  # a prediction of nothing to begin with
    torch.nn.init.normal_(model.ends.conv_out.weight)
    tokens = torch.zeros(2, (sample.shape[-1] // patch) ** 2, model.config.hidden_size)
    layout = model._layout(sample, text)
    moved = sample.clone()
    moved[:, :, 0, 0] += 1
    after = [model.ends.after(model.ends.before(x), tokens, layout) for x in (sample, moved)]
    assert after[0].shape == sample.shape
    assert (after[1] - after[0])[:, :, patch, patch].abs().max() > 0
    assert not hasattr(model, "to_patch")


def test_a_model_may_predict_fewer_channels_than_it_takes():
    model = tiny(in_channels=9, out_channels=4, conv_channels=8)
    torch.nn.init.normal_(model.ends.conv_out.weight)
    latents, text = torch.randn(2, 9, 8, 8), torch.randn(2, 5, 6)
    with torch.no_grad():
        plain = model(latents, 5, text).sample
        latents[:, 8] += 1
        told = model(latents, 5, text).sample
    assert plain.shape == (2, 4, 8, 8)
    assert (plain - told).abs().max() > 0
