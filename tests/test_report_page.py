"""The page of nasnet report in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.labels import builtin_labels
from nasnet_cli.results.records import Classified, Everyday, Prediction
from nasnet_cli.search import Word
from nasnet_cli.wordnet import load_hierarchy
from support.cli import WATCHDOG, run_in_process
from support.labels import BANANA, DOG, GOLDEN, LABRADOR, TABBY, failed, labelled, write_results
from support.waiting import wait_until

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
playwright = pytest.importorskip("playwright.sync_api")

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
ODD = os.fsdecode(b"odd #?%41 \xff.jpg")
# In a folder called "<".
HOSTILE = "</script><img src=x onerror=pwned()>\u202egpj.jpg"
OWN = "<script>pwned()</script>"
# The first rows of the report; all classes of ImageNet follow, two an image, which do not exist.
ROWS = [
    labelled("photos/cat.jpg", TABBY, (TABBY, 0.8), (DOG, 0.1)),
    labelled("photos/flower.jpg", None, (BANANA, 0.2)),
    labelled(ODD, DOG, (GOLDEN, 0.5), (LABRADOR, 0.4)),
    labelled("sum.jpg", None, (TABBY, 0.4), (GOLDEN, 0.3), (LABRADOR, 0.25)),
    failed("broken.jpg"),
    Classified(HOSTILE, (Prediction(1, 0, "", OWN, 0.6),), sure=Everyday("", OWN, 0.6)),
]
CLASSES = [label for label in builtin_labels("imagenet_1001") if label.wnid]


def fillers():
    for number in range(0, 1000, 2):
        two = [
            Prediction(i + 1, 0, c.wnid, c.name, 0.01) for i, c in enumerate(CLASSES[number:][:2])
        ]
        yield Classified(f"gone/{number:04}.jpg", tuple(two))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with a report of their labels, and one of groups."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(PHOTOS, folder / "photos")
    (folder / "<").mkdir()
    for row in (ROWS[2], ROWS[5]):
        shutil.copy(PHOTOS / "rocket.jpg", folder / row.path)
    rows = [*ROWS, *fillers()]
    write_results(folder / "labels.jsonl", rows)
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    np.save(folder / "v.npy", vectors)
    named = [ROWS[0].path, ROWS[1].path, ROWS[3].path, rows[6].path, rows[7].path]
    lines = ({"path": path, "status": "ok", "row": row} for row, path in enumerate(named))
    (folder / "v.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    members = [
        {"row": row, "path": f"photos/{name}.jpg", "similarity": 1 - row / 100, "role": role}
        for row, name, role in ((0, "espresso", "keep"), (1, "espresso_sideways", "duplicate"))
    ]
    groups = [{"group": number, "members": members} for number in (1, 2)]
    (folder / "groups.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups))
    mistakes = [
        {"path": f"photos/{name}.jpg", "title": title, "label": label, "wnid": wnid,
         "probability": value}
        for name, title, label, wnid, value in (
            ("cat", "tiger cat", "tabby", TABBY, 0.9), ("flower", "daisy", OWN, "", 0.8))
    ]  # fmt: skip
    (folder / "mistakes.json").write_text(json.dumps({"mistakes": mistakes}, indent=1))
    pages = {"labels.jsonl": ["--vectors", "v.npy"], "groups.jsonl": [], "mistakes.json": []}
    for file, more in pages.items():
        out = f"{Path(file).stem}.html"
        run_in_process("report", file, "-o", out, "-q", *more, cwd=folder, expect=0)
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, timeout=WATCHDOG * 1000)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, folder):
    """Open a page of the folder. In the end, it must have asked for and reported nothing."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(WATCHDOG * 1000)
    page = context.new_page()
    asked, reported = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: reported.append(message.text))
    page.on("pageerror", lambda error: reported.append(str(error)))
    page.on("dialog", lambda dialog: reported.append(dialog.message))

    def open_(name):
        page.goto((folder / name).as_uri())
        return page

    yield open_
    context.close()
    assert reported == []
    assert [url for url in asked if not url.startswith((folder.as_uri(), "data:"))] == []


@pytest.fixture
def page(open_page):
    """The page of labels."""
    return open_page("labels.html")


def count(page):
    return page.locator("#count").inner_text()


def names(page):
    return page.locator("#grid .path").all_inner_texts()


def wait_for_focus(page, text):
    """Wait until the focused element has a name with text in it."""
    page.wait_for_function(
        "text => (document.activeElement.ariaLabel ?? document.activeElement.textContent)"
        ".includes(text)",
        arg=text,
    )


CAT, FLOWER, ODD_SHOWN = "cat.jpg", "flower.jpg", "odd #?%41 \\xff.jpg"
HOSTILE_SHOWN = "script><img src=x onerror=pwned()>\\u202egpj.jpg"
ALL = "506 images"


@pytest.mark.parametrize(
    ("text", "expected", "matches"),
    [
        ("tabby", [CAT, "sum.jpg"], 2),
        ("Felis domesticus", [CAT, "sum.jpg"], None),
        ("Canis familiaris", [ODD_SHOWN, "sum.jpg"], None),
        ("golden retrievers", [ODD_SHOWN], 1),
        ("flower.jpg", [FLOWER], 1),
        ("gone/0006", ["0006.jpg"], 1),
        ("cat", [CAT, "sum.jpg"], None),
        ("pwned", [HOSTILE_SHOWN], 1),
        ("bananana", [], 0),
    ],
)
def test_search_finds_labels_synonyms_wider_classes_and_paths(text, expected, matches, page):
    page.locator("#search").fill(text)
    assert names(page)[: len(expected)] == expected
    if matches is not None:
        assert count(page) == f"{matches} of {ALL}"
    assert page.locator("#nothing").is_visible() == (not expected)


def test_words_stand_for_the_same_classes_as_in_find(page):
    hierarchy = load_hierarchy()
    labels = page.evaluate(
        "report.album.words.labels.map(({ text, place }) =>"
        " [text, place < 0 ? '' : report.album.words.classes[place].wnid])"
    )
    words = ["dog", "Dogs", "crane", "n02012849", "n99999999", "glasses", "geese", "mice", "wolves"]
    words += ["binoculars", "berries", "fungi", "sea lions", "Canis_familiaris", "crane (bird)"]
    words += ["animal", "N02012849", " ", "script", "xylophone", OWN]
    words += [hierarchy[wnid].name for wnid in list(hierarchy)[::60]]
    code = "(words) => words.map((word) => [...report.album.words.labelsUnder(word)])"
    for word, under in zip(words, page.evaluate(code, words), strict=True):
        expected = Word(word)
        assert under == [int(expected.matches(wnid, text)) for text, wnid in labels], word
    assert len(labels) > 1000


def test_filters_and_clearing_them(page):
    dog = page.locator("#labels .count-bar[data-key=dog]")
    assert count(page) == ALL
    page.get_by_role("button", name="Sure", exact=True).click()
    assert names(page) == [CAT, ODD_SHOWN, HOSTILE_SHOWN]
    dog.click()
    assert names(page) == [ODD_SHOWN] and dog.get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Clear filters").click()
    assert count(page) == ALL and page.locator("#search").evaluate(
        "e => e === document.activeElement"
    )
    page.locator("#minimum").fill("70")
    assert names(page) == [CAT, ODD_SHOWN]
    page.locator("#tree .count-bar", has_text="animal").click()
    assert names(page) == [CAT, ODD_SHOWN]
    for kind in ("mammal", "carnivore", "canine"):
        page.locator("#tree .count-bar", has_text=kind).click()
    assert names(page) == [ODD_SHOWN]


def test_errors_show_their_reasons(page):
    page.locator("#labels .count-bar.is-error").click()
    assert count(page) == f"1 of {ALL}"
    assert "It is cut short, = 1." in page.locator("#grid").inner_text()
    page.locator("#grid button").click()
    assert page.locator("#viewer-error").inner_text() == "It is cut short, = 1."


def test_a_count_says_how_many_a_click_leaves(page):
    page.locator("#minimum").fill("1")
    for place in (0, 1, 3):
        for bars in ("#labels .count-bar", "#tree .count-bar"):
            bar = page.locator(bars).nth(place)
            number = bar.locator(".number").inner_text()
            bar.click()
            assert count(page).split(" ")[0] == number
            page.get_by_role("button", name="Clear filters").click()


def test_sorting(page):
    page.locator("#sort").select_option("surest")
    assert names(page)[:3] == [CAT, ODD_SHOWN, HOSTILE_SHOWN]
    page.locator("#sort").select_option("name")
    assert names(page)[0] == HOSTILE_SHOWN
    page.locator("#sort").select_option("label")
    titles = page.locator(".section-title").all_inner_texts()
    assert titles[0].startswith(OWN) and len(titles) > 2


def test_only_tiles_near_the_window_exist(page):
    assert 10 < page.locator(".tile").count() < 100
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator(".tile[aria-posinset='506']").wait_for()
    assert page.locator(".tile").count() < 100
    assert not page.locator(".tile[aria-posinset='1']").count()


def test_the_keyboard_reaches_everything(page):
    page.keyboard.press("/")
    page.keyboard.type("dog")
    assert names(page)[0] == ODD_SHOWN
    page.locator("#search").fill("")
    page.locator("#clear").wait_for(state="hidden")
    page.reload()
    page.keyboard.press("Tab")
    wait_for_focus(page, "Skip to the images")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    wait_for_focus(page, "tabby 90.0 %, photos/cat.jpg")
    page.keyboard.press("ArrowRight")
    wait_for_focus(page, "not sure, perhaps banana 20.0 %, photos/flower.jpg")
    page.keyboard.press("End")
    wait_for_focus(page, "gone/0998.jpg")
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    columns = page.evaluate("report.grid.columns")
    assert page.evaluate("report.grid.current") == columns
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.locator("#viewer").wait_for()
    wait_for_focus(page, "tabby")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_text(f"3 of {ALL.split()[0]}", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.locator("#viewer").wait_for(state="hidden")
    wait_for_focus(page, ODD_SHOWN)


def test_an_image_opens_enlarged_with_its_labels_and_its_file(page, folder):
    page.locator(".tile button").nth(2).click()
    assert page.locator("#viewer-title").inner_text() == "dog"
    bars = page.locator("#viewer-bars li").all_inner_texts()
    assert [bar.split("\n")[0] for bar in bars] == ["golden retriever", "Labrador retriever"]
    widths = page.locator("#viewer-bars .fill").evaluate_all("all => all.map((e) => e.style.width)")
    assert widths == ["50%", "40%"]
    kinds = page.locator("#viewer-above").inner_text()
    assert re.search(r"Kinds: canine \W carnivore \W mammal \W animal", kinds)
    # The image itself instead of its thumbnail, by the link to a name of odd bytes.
    page.wait_for_function("document.getElementById('viewer-image').src.startsWith('file:')")
    size = page.locator("#viewer-image").evaluate(
        "image => [image.naturalWidth, image.naturalHeight]"
    )
    with Image.open(folder / ODD) as image:
        assert tuple(size) == image.size
    link = page.locator("#viewer-link").evaluate("link => link.href")
    assert link == f"{folder.as_uri()}/odd%20%23%3F%2541%20%FF.jpg"


def test_hostile_names_are_text(page):
    page.locator("#search").fill("pwned")
    assert page.locator("#grid .label").inner_text().startswith(OWN)
    page.locator(".tile button").click()
    assert page.locator("#viewer-title").inner_text() == OWN
    assert page.locator("#viewer-path").inner_text() == f"</{HOSTILE_SHOWN}"
    page.wait_for_function("document.getElementById('viewer-image').src.startsWith('file:')")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Map").click()


def test_the_policy_stops_what_is_not_the_pages_own(browser, folder):
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto((folder / "labels.html").as_uri())
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = 1";
          const image = new Image();
          image.src = "https://nowhere.invalid/a.png";
          document.body.append(script, image);
          document.body.insertAdjacentHTML("beforeend", "<b onclick='window.ran = 1'>x</b>");
          document.body.lastChild.click();
        }"""
    )

    def count_refused():
        assert page.evaluate("window.ran") is None
        return len([text for text in refused if "Content Security Policy" in text])

    wait_until(lambda: count_refused() >= 3)
    assert count_refused() == 3
    page.close()


def test_at_most_500_images_are_printed(page):
    page.evaluate(
        "addEventListener('beforeprint', () => { window.printed ="
        " [document.querySelectorAll('#print figure').length, document.querySelector('#print p').textContent]; })"
    )
    page.pdf()
    figures, text = page.evaluate("printed")
    assert figures == 500 and text.startswith("The first 500 of 506 images")
    page.locator("#search").fill("dog")
    shown = int(count(page).split(" ")[0])
    page.pdf()
    assert page.evaluate("printed[0]") == shown
    assert page.locator("#print figure").count() == 0


def test_the_map_shows_images_and_opens_them(page):
    page.get_by_role("button", name="Map").click()
    assert page.locator("#grid").is_hidden()
    assert page.locator("#plot").get_attribute("aria-label") == "Map of 5 images"
    page.locator("#plot").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#plot-state").inner_text() == "tabby 90.0 %, photos/cat.jpg"
    assert page.locator("#tip img").is_visible()
    seen = {page.locator("#plot-state").inner_text()}
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp") * 3:
        page.keyboard.press(key)
        seen.add(page.locator("#plot-state").inner_text())
    assert len(seen) > 2
    page.keyboard.press("Enter")
    assert page.locator("#viewer").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("+")
    page.keyboard.press("0")
    page.locator("#search").fill("tabby")
    assert page.locator("#plot").get_attribute("aria-label") == "Map of 2 images"
    x, y = page.evaluate("report.map.at(report.map.rows[0])")
    page.locator("#plot").click(position={"x": x, "y": y})
    assert page.locator("#viewer-path").inner_text() == "photos/cat.jpg"


def test_groups_stand_under_headings_with_their_roles(open_page):
    page = open_page("groups.html")
    assert "2 groups" in page.locator("#summary").inner_text()
    assert page.locator(".section-title").all_inner_texts() == ["Group 1 2", "Group 2 2"]
    page.get_by_role("button", name="Keep", exact=True).click()
    assert names(page) == ["espresso.jpg"] * 2
    page.locator("#labels .count-bar[data-key='Group 2']").click()
    assert count(page) == "1 of 4 images"
    page.locator(".tile button").click()
    assert "Role: keep." in page.locator("#viewer-above").inner_text()


def test_mistakes_say_what_the_image_shows(open_page):
    page = open_page("mistakes.html")
    assert page.locator(".tile .label span:first-child").all_inner_texts() == [
        "tabby, not tiger cat",
        f"{OWN}, not daisy",
    ]
    for word, found in (("daisy", "flower.jpg"), ("tabby", "cat.jpg"), ("tiger cat", "cat.jpg")):
        page.locator("#search").fill(word)
        assert names(page) == [found]
    page.locator(".tile button").click()
    assert page.locator("#viewer-title").inner_text() == "tabby, not tiger cat"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 380)])
def test_axe_finds_nothing(scheme, width, page):
    from axe_playwright_python.sync_playwright import Axe

    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.locator("#filters").evaluate("details => { details.open = true }")
    steps = {
        "grid": lambda: page.locator("#tree .twist").first.click(),
        "map": lambda: page.get_by_role("button", name="Map").click(),
        "viewer": lambda: (
            page.get_by_role("button", name="Grid").click(),
            page.locator(".tile button").first.click(),
        ),
    }
    for step in steps.values():
        step()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_the_page_is_dark_where_the_system_is(page):
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(246, 246, 244)", "rgb(21, 22, 24)"]
