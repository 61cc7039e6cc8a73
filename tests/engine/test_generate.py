"""The generation job on a tiny model."""

import json

import numpy as np
import pytest

import tiny
from skiagraph.data.images import read_radiograph
from skiagraph.data.tables import read_reports
from skiagraph.engine.fit import Fit
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.errors import DataError, ModelError, ReportError, SkiagraphError
from skiagraph.pipelines.schedulers import make_scheduler
from skiagraph.progress import silent


def config(model, **changes):
    values = {"reports": ("Cardiomegaly.", "Edema."), "model": str(model), "steps": 2, **changes}
    return GenerateConfig(**values)


def test_manifest_says_what_made_every_image(tiny_model, tmp_path):
    manifest = generate(config(tiny_model, count=2, seed=7), tmp_path, listen=silent)
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    assert [row["seed"] for row in manifest["images"]] == [7, 8, 9, 10]
    assert [row["report"] for row in manifest["images"]] == ["Cardiomegaly."] * 2 + ["Edema."] * 2
    assert manifest["versions"]["diffusers"]
    assert set(manifest["weights"]) == {
        f"{part}/{name}.safetensors"
        for part, name in [
            ("denoiser", "diffusion_pytorch_model"), ("text_encoder", "model"), ("vae", "diffusion_pytorch_model"),
        ]
    }  # fmt: skip


def test_what_a_report_says_in_vain_is_named(tiny_model, tmp_path):
    tiny.pipeline(prompt_style="findings").save_pretrained(tmp_path / "model")
    reports = ("Cardiomegaly. Rib fracture. Xyzzy.",)
    manifest = generate(config(tmp_path / "model", reports=reports), tmp_path / "o", listen=silent)
    assert manifest["images"][0]["left_out"] == ["rib fracture", "xyzzy"]


def test_batches_do_not_change_images(tiny_model, tmp_path):
    one = generate(config(tiny_model, batch_size=1), tmp_path / "a", listen=silent)
    two = generate(config(tiny_model, batch_size=2), tmp_path / "b", listen=silent)
    assert [r["file"] for r in one["images"]] == [r["file"] for r in two["images"]]
    assert one["config_hash"] == two["config_hash"]


def test_a_run_begun_with_other_weights_is_refused(tiny_model, tmp_path):
    generate(config(tiny_model), tmp_path / "o", listen=silent)
    path = tmp_path / "o/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["weights"]["denoiser/diffusion_pytorch_model.safetensors"] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(SkiagraphError, match="other weights"):
        generate(config(tiny_model), tmp_path / "o", listen=silent)


def test_a_damaged_manifest_is_refused_and_kept(tiny_model, tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(SkiagraphError, match="not a readable manifest"):
        generate(config(tiny_model), tmp_path, listen=silent)
    assert (tmp_path / "manifest.json").read_text() == "{"


def test_a_negative_prompt_nobody_understands_is_refused_before_the_first_image(tmp_path):
    with pytest.raises(ReportError, match="no finding"):
        generate(GenerateConfig(reports=("Edema.",), negative="Hello."), tmp_path / "o", listen=silent)
    assert not (tmp_path / "o").exists()


def test_reports_of_csv_and_text(tmp_path):
    table, text = tmp_path / "r.csv", tmp_path / "r.txt"
    table.write_text('id,report\n1,"Edema.\nAP view."\n2,Effusion.\n', encoding="utf-8-sig")
    assert read_reports(table) == ("Edema.\nAP view.", "Effusion.")
    text.write_text("Edema.\n\n Effusion. \n")
    assert read_reports(text) == ("Edema.", "Effusion.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('report\n"a\nb"\n""\n', "empty report in line 4"),
        ("id,report\n1,Edema.\n2\n", "empty report in line 3"),
        ("id,text\n1,Edema.\n", "no column 'report'; its columns are id, text"),
        ('report\n"Edema.\n', "from line 2: not valid CSV"),
        ("report\n", "has no rows below its column names"),
        ("", "has no column 'report'; its columns are none"),
    ],
)
def test_faults_of_a_csv_are_named_with_their_line(tmp_path, content, message):
    (tmp_path / "r.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_reports(tmp_path / "r.csv")


def test_schedulers_by_name():
    assert type(make_scheduler("DDIM", {})).__name__ == "DDIMScheduler"
    assert type(make_scheduler("EulerDiscreteScheduler", {})).__name__ == "EulerDiscreteScheduler"
    for name in ("Magic", "UNet2DModel", "utils"):
        with pytest.raises(ModelError, match="no scheduler"):
            make_scheduler(name, {})


def test_enlarged_pictures_are_written_in_their_size(tiny_model, tmp_path):
    pipeline = tiny.pipeline()
    pipeline.register_modules(enlarger=tiny.enlarger())
    pipeline.save_pretrained(tmp_path / "model")
    generate(config(tmp_path / "model", enlarge=True), tmp_path / "o", listen=silent)
    assert read_radiograph(tmp_path / "o/00001.png").pixels.shape == (2 * tiny.SIDE, 2 * tiny.SIDE)
    with pytest.raises(ModelError, match="no enlarger"):
        generate(config(tiny_model, enlarge=True), tmp_path / "p", listen=silent)
    assert not (tmp_path / "p").exists() or not list((tmp_path / "p").glob("*.png"))


def test_the_draw_that_fits_best_is_kept(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(Fit, "__call__", lambda fit, reports, images: -np.abs(images.mean(axis=(1, 2)) - 0.45))
    every = generate(config(tiny_model, count=3, seed=5), tmp_path / "all", listen=silent)["images"]
    best = generate(config(tiny_model, best_of=3, seed=5), tmp_path / "best", listen=silent)["images"]
    for kept, tried in zip(best, (every[:3], every[3:]), strict=True):
        off = {row["seed"]: abs(float(pixels(tmp_path / "all", row).mean()) - 0.45) for row in tried}
        assert kept["seed"] == min(off, key=off.get)
        assert kept["fit"] == pytest.approx(-min(off.values()), abs=2e-3)
        same = next(row for row in tried if row["seed"] == kept["seed"])
        assert np.array_equal(pixels(tmp_path / "best", kept), pixels(tmp_path / "all", same))
    assert "fit" not in every[0]


def test_a_report_that_no_classifier_knows_has_no_best_draw(tiny_model, tmp_path):
    with pytest.raises(ReportError, match="knows nothing"):
        generate(config(tiny_model, reports=("Rib fracture.",), best_of=2), tmp_path / "o", listen=silent)


def pixels(folder, row):
    return read_radiograph(folder / row["file"]).pixels
