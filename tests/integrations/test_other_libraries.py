"""Beside the libraries that are extras, on their own networks: `make test-integrations` has them, other runs skip."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL.Image import fromarray
from safetensors.torch import save_file
from transformers import BertConfig

import tiny
from skiagraph.errors import EvaluationError
from skiagraph.evaluation import extractors, frechet_radiomics_distance
from skiagraph.models.biomedclip import load_biomedclip
from skiagraph.models.text import encode_text

PROMPTS = ["Large right pleural effusion.", "", "No pneumothorax. " * 9]


def test_text_states_are_open_clips(tmp_path):
    """A text tower as BiomedCLIP's, of open_clip's own class: ours gives its token states, padding left out."""
    hf_model = pytest.importorskip("open_clip.hf_model")
    tokenizer = tiny.tokenizer()
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 32,
    }  # fmt: skip
    config = BertConfig(**sizes, pad_token_id=tokenizer.pad_token_id)
    config.save_pretrained(tmp_path / "text")
    theirs = hf_model.HFTextEncoder(
        str(tmp_path / "text"), output_dim=8, pooler_type="cls_last_hidden_state_pooler", proj_type="mlp",
        pretrained=False, output_tokens=True,
    ).eval()  # fmt: skip
    tiny.random_weights(theirs, seed=3)
    folder = tmp_path / "published"
    folder.mkdir()
    text = {"hf_model_name": "x", "hf_tokenizer_name": "x", "hf_proj_type": "mlp", "context_length": 24}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 8, "text_cfg": text}}))
    tokenizer.save_pretrained(folder)
    save_file(
        {f"text.{k}": v.contiguous() for k, v in theirs.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    model, its_tokenizer = load_biomedclip(folder, config=config)
    ours = encode_text(model, its_tokenizer, PROMPTS, max_length=24)
    with torch.no_grad():
        _, tokens = theirs(ours.input_ids)
    torch.testing.assert_close(ours.states[ours.mask], tokens[ours.mask], atol=1e-5, rtol=1e-4)


def test_features_of_torchxrayvision(monkeypatch):
    """Its DenseNet, here without weights, gets its own range of values and gives 1024 features a picture."""
    library = pytest.importorskip("torchxrayvision")
    network, ranges = library.models.DenseNet, []
    whole, features2 = network.__init__, network.features2

    def without_weights(self, weights):
        assert weights == "densenet121-res224-all"
        whole(self, weights=None, num_classes=3)

    def listened(self, pictures):
        ranges.append((float(pictures.min()), float(pictures.max())))
        return features2(self, pictures)

    monkeypatch.setattr(network, "__init__", without_weights)
    monkeypatch.setattr(network, "features2", listened)
    images = np.stack([np.linspace(0, 1, 256 * 256, dtype=np.float32).reshape(256, 256)] * 2)
    extractor = extractors.load_extractor("torchxrayvision")
    features = extractor.features(images)
    assert extractor.name == "torchxrayvision-densenet121-res224-all"
    assert features.shape == (2, 1024)
    assert np.array_equal(features[0], features[1])
    assert -1025 < ranges[0][0] < -1000 < 1000 < ranges[0][1] < 1025


def test_the_radiomics_distance_is_frd_scores(tmp_path):
    """Ours on our extractor's features, and the library's own of the same files."""
    frd = pytest.importorskip("frd_score.frd")
    pytest.importorskip("radiomics")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    sets = {}
    for name, width in (("real", 0.2), ("made", 0.26)):
        centres = rng.uniform(0.35, 0.65, (8, 2))
        pictures = [0.7 - 0.4 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / width**2) for a, b in centres]
        sets[name] = (np.stack(pictures) + rng.normal(0, 0.05, (8, 64, 64))).clip(0, 1).astype(np.float32)
        (tmp_path / name).mkdir()
        for index, picture in enumerate(sets[name]):
            fromarray(np.round(picture * 255).astype(np.uint8)).save(tmp_path / name / f"{index}.png")
    extractor = extractors.load_extractor("radiomics")
    features = [extractor.features(pictures) for pictures in sets.values()]
    ours = frechet_radiomics_distance(*features, extractor=extractor.name)
    theirs = frd.compute_frd([str(tmp_path / name) for name in sets], num_workers=1)
    assert ours.value == pytest.approx(theirs, rel=1e-4)


def test_a_model_as_open_clip_publishes_it(tmp_path):
    """Features of pictures and texts are those of the model itself."""
    library = pytest.importorskip("open_clip")
    folder = tmp_path / "small-clip"
    folder.mkdir()
    vision = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    torch.manual_seed(0)
    model = library.CLIP(8, library.CLIPVisionCfg(**vision), library.CLIPTextCfg(**text)).eval()
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": settings}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    extractor = extractors.load_extractor(str(folder))
    assert isinstance(extractor, extractors.DualEncoder)
    assert extractor.name == "open_clip:small-clip"
    with torch.no_grad():
        texts = model.encode_text(library.get_tokenizer("ViT-B-32", context_length=12)(PROMPTS)).numpy()
        grey = model.encode_image((torch.full((1, 3, 32, 32), 0.6) - 0.5) / 0.2).numpy()
    assert np.allclose(extractor.texts(PROMPTS), texts, atol=1e-5)
    assert np.allclose(extractor.features(np.full((1, 64, 64), 0.6, np.float32)), grey, atol=1e-4)


def test_inception_from_a_file(tmp_path):
    """Features are those of torch-fidelity's own network; a pickle that would run something is refused."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    weights = tmp_path / "inception.pth"
    whole = library.torch.load
    library.torch.load, stored = lambda *a, **k: stored, {}
    try:
        with pytest.raises(RuntimeError, match="Missing key") as missing:
            library.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path="x")
    finally:
        library.torch.load = whole
    network = missing.traceback[1].frame.f_locals["self"]
    torch.save(network.state_dict(), weights)
    extractor = extractors.load_extractor(str(weights))
    assert extractor.name == "inception-v3-fid"
    images = np.random.default_rng(0).uniform(size=(2, 64, 64)).astype(np.float32)
    again = library.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    pixels = torch.from_numpy(np.round(images * 255).astype(np.uint8))[:, None].expand(-1, 3, -1, -1)
    assert np.allclose(extractor.features(images), again(pixels)[0].numpy(), atol=1e-5)
    torch.save({"x": Path("harm")}, weights)
    with pytest.raises(EvaluationError, match="does not hold torch-fidelity's Inception"):
        extractors.load_extractor(str(weights))
