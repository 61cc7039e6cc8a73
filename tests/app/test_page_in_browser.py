"""The page from end to end in headless Chromium: every tab does its job, at a desk and on a phone."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("gradio")
api = pytest.importorskip("playwright.sync_api")

from skiagraph.app.page import serve  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

PATIENCE = 240_000
"""Milliseconds that a job may take."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return serve(runs, runs, host="127.0.0.1", port=7871, block=False), runs


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(served, browser, request):
    """An open page that fails where it asks another server for anything."""
    width, height = getattr(request, "param", (1280, 900))
    context = browser.new_context(viewport={"width": width, "height": height})
    page, asked = context.new_page(), []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(served[0])
    page.get_by_role("tab", name="Generate").wait_for()
    yield page
    context.close()
    assert not [url for url in asked if not url.startswith((served[0], "data:", "blob:"))]


def few_steps(page, scope):
    """Set the tab's denoising steps to 2."""
    page.locator("button", has_text="More").locator("visible=true").click()
    field = page.locator(f"#{scope} input[type=number]")
    field.fill("2")
    field.press("Enter")


@pytest.fixture(scope="module")
def radiograph(served):
    """A synthetic radiograph as an input."""
    from skiagraph.engine.generate import GenerateConfig, generate
    from skiagraph.progress import silent

    folder = served[1] / "input"
    generate(GenerateConfig(("Normal chest. PA view of an adult.",), steps=8), folder, listen=silent)
    return folder / "00000.png"


def test_reports_become_pictures_and_a_zip_file(page, served):
    page.locator("#reports textarea").fill("Large right pleural effusion. PA view of an adult.")
    few_steps(page, "steps")
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("2 synthetic radiographs").wait_for(timeout=PATIENCE)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as zip").locator("visible=true").click()
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"
    assert len(list(served[1].glob("generate-*/0000?.png"))) == 2


def test_a_report_that_says_nothing_is_a_message_and_no_folder(page, served):
    before = set(served[1].iterdir())
    page.locator("#reports textarea").fill("gibberish")
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("recognised").wait_for(timeout=PATIENCE)
    assert {p for p in served[1].iterdir() if p.is_dir()} <= before


def test_a_run_can_be_stopped(page, served):
    page.locator("#count input[type=number]").fill("64")
    page.locator("#count input[type=number]").press("Enter")
    few_steps(page, "steps")
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("generating").first.wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Stop").locator("visible=true").click()
    page.get_by_text("what was finished is in the folder").wait_for(timeout=PATIENCE)
    newest = max(served[1].glob("generate-*"), key=lambda p: p.stat().st_mtime)
    assert len(list(newest.glob("0*.png"))) < 64


def test_an_edit_in_a_drawn_region_stays_in_it(page, radiograph, served):
    page.get_by_role("tab", name="Edit").click()
    page.get_by_role("tabpanel").locator("visible=true").locator("input[type=file]").first.set_input_files(radiograph)
    canvas = page.locator("canvas").locator("visible=true").first
    canvas.wait_for(timeout=PATIENCE)
    page.wait_for_timeout(2000)
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y + 20, steps=8)
    page.mouse.up()
    page.wait_for_timeout(1000)
    few_steps(page, "edit-steps")
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_text("Pictures in").wait_for(timeout=PATIENCE)
    assert list(served[1].glob("region-*.png")), "what was drawn is the region"
    assert list(served[1].glob("edit-*/after-1.png"))


def test_pairs_have_outlines(page, served):
    page.get_by_role("tab", name="Pairs").click()
    field = page.locator("#pairs-count input[type=number]")
    field.fill("1")
    field.press("Enter")
    page.get_by_role("button", name="Make pairs").click()
    page.get_by_text("of 1 pairs kept").wait_for(timeout=PATIENCE)


@pytest.mark.parametrize("page", [(1280, 900), (390, 844)], indirect=True, ids=["desk", "phone"])
def test_pictures_become_masks_and_a_table(page, radiograph):
    if page.viewport_size["width"] < 500:
        page.get_by_role("button", name="More tabs").click()
        page.locator(".overflow-dropdown, .overflow-menu").get_by_role("button", name="Segment").click()
    else:
        page.get_by_role("tab", name="Segment").click()
    page.get_by_role("tabpanel").locator("visible=true").locator("input[type=file]").first.set_input_files(radiograph)
    page.get_by_text("00000.png").first.wait_for()
    page.get_by_role("button", name="Segment").locator("visible=true").last.click()
    page.get_by_text("1 masks in").wait_for(timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_folders_elsewhere_are_not_read(page):
    page.get_by_role("tab", name="Evaluate").click()
    page.get_by_label("Real pictures").fill("../../etc")
    page.get_by_label("Synthetic pictures").fill("input")
    page.get_by_role("button", name="Evaluate").click()
    page.get_by_text("no folder '../../etc' below").wait_for(timeout=PATIENCE)
