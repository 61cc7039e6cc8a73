"""What `skiagraph info` counts, for each kind of model that loads by name."""

import pytest
import torch

import tiny
from skiagraph.engine.info import describe
from skiagraph.models.affinity_net import AffinityNet
from skiagraph.models.cost import measured_macs
from skiagraph.models.segmenter import Segmenter
from skiagraph.pipelines.text_to_image import TextToImagePipeline


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (tiny.latent_segmenter, ["segment"]),
        (lambda: tiny.latent_segmenter(in_channels=3), ["segment"]),
        (tiny.lung_segmenter, ["segment"]),
        (lambda: Segmenter(["background", "polyp"], channels=(8, 8, 8), working_size=64, in_channels=3), ["segment"]),
        (tiny.autoencoder, ["encode", "decode"]),
        (tiny.colour_autoencoder, ["encode", "decode"]),
        (tiny.denoiser, ["denoiser"]),
        (lambda: AffinityNet(channels=(8, 8, 8), features=4), ["network"]),
    ],
)
def test_every_kind_of_network_is_counted(tmp_path, make, parts):
    make().save_pretrained(tmp_path)
    rows = describe(tmp_path)["components"]
    assert [r["name"] for r in rows] == parts
    assert all(r["macs"] > 0 and r["flops"] == 2 * r["macs"] and r["parameters"] > 0 for r in rows)


def test_a_model_says_what_it_can_do(tiny_model):
    said = describe(tiny_model)
    assert (said["class"], said["verbs"]) == ("TextToImagePipeline", ["generate", "pairs", "edit", "augment"])
    assert (said["size"], said["colour"]) == (TextToImagePipeline.load(tiny_model).image_side, False)
    assert describe("lung-segmenter")["verbs"] == ["segment"]


def test_a_latent_segmenter_costs_its_encoder_and_one_step(tmp_path):
    network = tiny.latent_segmenter().eval()
    network.save_pretrained(tmp_path)
    image = torch.zeros(1, 1, *(network.config.working_size,) * 2)
    noisy, timesteps = torch.zeros(1, *network.latent_shape), torch.tensor([1])
    parts = measured_macs(network, noisy, timesteps, image)
    decoding = describe(tmp_path)["components"][0]["macs"] - parts
    assert 0 < decoding < parts
