"""The report in headless Chromium: what is seen, pointed at, searched, clicked and typed.

Playwright and Chromium are not part of `make test`: `make browser` installs what it can.
BATCHEMBED_SHOTS names a folder for screenshots to look at.
"""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import faults, running, runs
from fakes.commands import ROOT
from fakes.runs import texts

pytestmark = pytest.mark.slow
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
NASTY = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    '"><img src=x onerror="window.hacked = 3">',
    "<!-- <script> ]]> -->",
    "שלום עולם, \u202eright to left",
    "👩‍👩‍👧‍👦 emoji 🏳️‍🌈 and ﷽",
    "&lt;b&gt;not bold&lt;/b&gt; &amp;",
]


@pytest.fixture(scope="module")
def browser():
    """Chromium, as the system has it."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED: no playwright; `make browser` installs it"
    )
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("BATCHEMBED_CHROMIUM") or next(
        filter(None, map(shutil.which, names)), ""
    )
    if not found:
        pytest.skip(f"NOT TESTED: no {' or '.join(names)}; `make browser` tells how to have one")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=found, args=FLAGS, headless=True)
        yield chromium
        chromium.close()


class Seen:
    """What a page complained about, and whom it asked."""

    def __init__(self, page):
        self.complaints, self.requests = [], []
        page.on("console", lambda told: self.complaints.append(told.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))


@contextmanager
def opened(browser, file, screen="desktop", **more):
    """The page in a browser; whatever it complains about or asks for fails the test."""
    context = browser.new_context(reduced_motion="reduce", **(SCREENS[screen] | more))
    page = context.new_page()
    seen = Seen(page)
    page.goto(f"file://{file}")
    yield page
    context.close()
    assert seen.complaints == []
    assert [r for r in seen.requests if not r.startswith("data:")] == [f"file://{file}"]


@pytest.fixture(scope="module")
def quick(commands, tmp_path_factory):
    """The quickstart's report."""
    out = tmp_path_factory.mktemp("browser") / "quickstart"
    for words in (("run", "jobs/quickstart.toml", "--out", out), ("report", out)):
        assert commands.run(*words, cwd=ROOT).code == 0
    return out


@pytest.fixture(scope="module")
def nasty(commands, tmp_path_factory):
    """A report over texts that attack the page, from a server that throttles."""
    folder = tmp_path_factory.mktemp("nasty")
    given = [*NASTY, *NASTY[:2], *texts(60)]
    table = runs.table(given).append_column("team", pa.array([NASTY[n % 3] for n in range(69)]))
    pq.write_table(table, folder / "corpus.parquet")

    def script(seen):
        return faults.throttled(1.2) if seen.number in {2, 5} else faults.delay(0.2)

    with running(script=script) as server:
        job = runs.settings(
            folder / "corpus.parquet", server, limits__texts_per_request=4, limits__concurrency=1,
            limits__requests_per_minute=600,
        )  # fmt: skip
        runs.write_job(folder / "job.toml", job)
        for words in (("run", "job.toml"), ("report", "run")):
            assert commands.run(*words, cwd=folder, env={"OPENAI_API_KEY": "k"}).code == 0
    return folder / "run"


def texts_of(run):
    return [
        f"{row['title']}\n\n{row['text']}" for row in runs.output(run).to_pylist()
    ]  # as the quickstart's template has it


def place(page, row):
    """Where a row is on the screen."""
    page.locator("#plane").scroll_into_view_if_needed()
    box = page.locator("#plane").bounding_box()
    x, y = page.evaluate(f"placing()({row})")
    return box["x"] + x, box["y"] + y


def lonely(page):
    """A row that has no other near it on the map."""
    return page.evaluate(
        """() => { const place = placing(); let best = 0, far = 0;
        for (let row = 0; row < rows.count; row++) {
          let least = Infinity; const [x, y] = place(row);
          for (let other = 0; other < rows.count; other++) if (other !== row) {
            const [a, b] = place(other); least = Math.min(least, Math.hypot(a - x, b - y)); }
          if (least > far) { far = least; best = row; } }
        return best; }"""
    )


def colours_in(page, canvas):
    """How many different colours a canvas shows."""
    return page.evaluate(
        """(name) => { const c = document.getElementById(name);
        const all = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        return new Set(new Uint32Array(all.data.buffer)).size; }""",
        canvas,
    )


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("which", ["quick", "nasty"])
def test_every_screen_shows_all_and_nothing_beside(browser, request, which, screen, tmp_path):
    """Both canvases are drawn, nothing sticks out to the side, no complaint, no request."""
    file = request.getfixturevalue(which) / "report.html"
    with opened(browser, file, screen) as page:
        assert page.title().endswith("batchembed")
        assert colours_in(page, "plane") > 20
        assert colours_in(page, "matrix") > 20
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) < 200) == (screen == "dark")
        shots = Path(os.environ.get("BATCHEMBED_SHOTS", tmp_path))
        page.screenshot(path=shots / f"{which}-{screen}.png", full_page=True)


def test_pointing_at_a_row_shows_its_text(browser, quick):
    """And leaving hides it."""
    with opened(browser, quick / "report.html") as page:
        row = lonely(page)
        page.mouse.move(*place(page, row))
        assert page.locator("#tip").is_visible()
        told = page.locator("#tip").inner_text()
        assert told.splitlines()[0] == runs.output(quick)["id"][row].as_py()
        assert " ".join(texts_of(quick)[row].split())[:100] in told
        page.mouse.move(5, 5)
        assert not page.locator("#tip").is_visible()


def neighbors(run):
    with pa.ipc.open_file((run / "similarity" / "top_k.arrow").read_bytes()) as reader:
        return reader.read_all()["neighbors"].to_pylist()


def listed(page):
    return page.locator("#chosen .rows button span:first-child").all_inner_texts()


def test_a_click_shows_the_row_and_its_nearest(browser, quick):
    """As the run's own comparison has them; and one click on goes on from there."""
    ids, near = runs.output(quick)["id"].to_pylist(), neighbors(quick)
    with opened(browser, quick / "report.html") as page:
        row = lonely(page)
        page.mouse.click(*place(page, row))
        chosen = page.locator("#chosen")
        assert chosen.locator("h3 bdi").inner_text() == ids[row]
        assert chosen.locator(".text").inner_text() == texts_of(quick)[row]
        assert listed(page)[:5] == [f"{n['score']:.3f}" for n in near[row]]
        chosen.locator(".rows button").first.click()
        assert chosen.locator("h3 bdi").inner_text() == near[row][0]["id"]
        page.mouse.click(*place(page, row))
        box = page.locator("#plane").bounding_box()
        page.mouse.click(box["x"] + box["width"] - 5, box["y"] + 5)
        assert chosen.locator("h3").count() == 0


def test_search_finds_what_stands_in_a_text(browser, quick):
    """Case aside, as many as there are; Enter takes the first, and one comes back from there."""
    with opened(browser, quick / "report.html") as page:
        right = [n for n, text in enumerate(texts_of(quick)) if "planet" in text.lower()]
        page.fill("#search", "PLANET")
        chosen = page.locator("#chosen")
        assert chosen.locator("h3").inner_text() == f"{len(right)} of 420 rows"
        assert page.evaluate("[...map.hits]") == right
        page.press("#search", "Enter")
        assert chosen.locator(".text").inner_text() == texts_of(quick)[right[0]]
        chosen.get_by_role("button", name="Back to what was found").click()
        assert chosen.locator("h3").inner_text() == f"{len(right)} of 420 rows"
        page.fill("#search", "no such words anywhere")
        assert chosen.locator("h3").inner_text() == "0 of 420 rows"
        page.fill("#search", "")
        assert page.evaluate("map.hits") is None


def test_everything_can_be_done_by_keyboard(browser, quick):
    """The map by arrows, Enter and Escape; the heat map too; Tab reaches each, in order."""
    with opened(browser, quick / "report.html") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
        wanted = ["search", "colour", "closer", "farther", "whole", "plane", "matrix"]
        assert [name for name in dict.fromkeys(reached) if name in wanted] == wanted
        page.focus("#plane")
        places = []
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
            places.append(page.evaluate("[rows.x[map.here], rows.y[map.here]]"))
        assert places[1][0] > places[0][0]
        assert places[3][1] > places[2][1] > places[1][1]
        assert page.locator("#tip").is_visible()
        page.keyboard.press("Enter")
        row = page.evaluate("map.here")
        assert page.locator("#chosen .text").inner_text() == texts_of(quick)[row]
        label = page.locator("#plane").get_attribute("aria-label")
        assert runs.output(quick)["id"][row].as_py() in label
        page.keyboard.press("+")
        assert page.evaluate("map.zoom") > 1
        page.keyboard.press("0")
        page.keyboard.press("Escape")
        assert page.evaluate("[map.zoom, map.chosen]") == [1, -1]
        page.focus("#matrix")
        for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        assert page.evaluate("heat.here") == [1, 3]


def test_the_heat_map_tells_the_cosine_of_its_cells(browser, quick):
    """Against the vectors themselves, to the 256 shades that it has."""
    vectors = np.stack(runs.output(quick)["embedding"].to_numpy())
    with opened(browser, quick / "report.html") as page:
        rows = page.evaluate("[...heat.rows]")
        page.locator("#matrix").scroll_into_view_if_needed()
        for cell in ((3, 200), (250, 40), (299, 298)):
            box = page.locator("#matrix").bounding_box()
            size = (box["width"] - 10) / 300
            page.mouse.move(
                box["x"] + 10 + (cell[1] + 0.5) * size, box["y"] + 10 + (cell[0] + 0.5) * size
            )
            assert page.evaluate("heat.here") == list(cell)
            left, right = (rows[at] for at in cell)
            told = float(page.locator("#cell .score").inner_text())
            assert told == pytest.approx(float(vectors[left] @ vectors[right]), abs=0.01)
            shown = page.locator("#cell h4").all_inner_texts()
            assert shown == [runs.output(quick)["id"][n].as_py() for n in (left, right)]


def test_each_column_colours_the_map(browser, quick):
    """The legend follows, and one of its values can be looked at alone."""
    with opened(browser, quick / "report.html") as page:
        before = page.evaluate("map.canvas.toDataURL()")
        for label in page.locator("#colour option").all_inner_texts():
            page.select_option("#colour", label=label)
            assert page.locator("#legend").inner_text()
            if label != "cluster":
                assert page.evaluate("map.canvas.toDataURL()") != before
        page.select_option("#colour", label="language")
        legend = page.locator("#legend button")
        assert legend.all_inner_texts() == ["en (300)", "de (120)"]
        legend.nth(1).click()
        assert page.evaluate("[...Array(rows.count).keys()].filter(isLit).length") == 120
        assert page.locator("#legend button").nth(1).get_attribute("aria-pressed") == "true"


def test_texts_that_attack_the_page_stay_text(browser, nasty):
    """Chosen one after the other, each is shown letter by letter, and nothing of it runs."""
    ids = runs.output(nasty)["id"].to_pylist()
    with opened(browser, nasty / "report.html") as page:
        for row, text in enumerate(NASTY):
            page.evaluate(f"choose({row})")
            shown = page.locator("#chosen .text")
            assert shown.text_content() == text.replace("\u202e", "")
            assert shown.get_attribute("dir") == "auto"
            assert page.locator("#chosen h3 bdi").inner_text() == ids[row]
        page.select_option("#colour", label="team")
        assert sorted(page.locator("#legend bdi").all_text_contents()) == sorted(
            f"{text} (23)" for text in NASTY[:3]
        )
        for detail in page.locator("details").all():
            detail.locator("summary").click()
        assert page.evaluate("window.hacked") is None
        assert page.locator("script").count() == 2
        assert page.locator("img, iframe, object, embed").count() == 0
        group = page.locator("#groups details .text").all_text_contents()
        assert group.count(NASTY[0]) == 2


def test_the_charts_mark_the_waits(browser, nasty):
    """A band for each wait of each chart, the limit as a line, times told on pointing."""
    with opened(browser, nasty / "report.html") as page:
        charts = page.locator("#charts svg")
        assert charts.count() == 3
        assert page.locator("#charts .wait").count() == 3 * 2
        assert page.locator("#charts path.limit").count() == 1
        charts.first.hover()
        assert "texts a second" in page.locator("#tip").inner_text()
        page.locator("#run summary").click()
        assert page.locator("#run tbody tr").count() == 2


def test_a_finger_can_choose_and_the_page_still_scrolls(browser, quick):
    """A tap chooses without a tip in the way; only a map that is zoomed keeps the finger."""
    with opened(browser, quick / "report.html", "phone") as page:
        row = lonely(page)
        page.touchscreen.tap(*place(page, row))
        assert page.locator("#chosen .text").inner_text() == texts_of(quick)[row]
        assert not page.locator("#tip").is_visible()
        assert page.evaluate("getComputedStyle(map.canvas).touchAction") == "pan-y"
        page.tap("#closer")
        assert page.evaluate("getComputedStyle(map.canvas).touchAction") == "none"


def test_dragging_moves_a_map_that_is_zoomed(browser, quick):
    """And chooses nothing."""
    with opened(browser, quick / "report.html") as page:
        page.click("#closer")
        box = page.locator("#plane").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        before = page.evaluate("[map.x, map.y]")
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 80, middle[1] + 40, steps=4)
        page.mouse.up()
        after = page.evaluate("[map.x, map.y]")
        assert after[0] < before[0]
        assert after[1] < before[1]
        assert page.evaluate("map.chosen") == -1


def test_without_javascript_words_and_tables_are_there(browser, nasty):
    """And a line that says what is missing."""
    with opened(browser, nasty / "report.html", java_script_enabled=False) as page:
        assert page.locator("noscript").is_visible()
        assert page.locator("#pairs .pairs li").count() > 0
        assert page.locator("#provenance dd").count() > 5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("startMap();", "startMap(); "),
        ("</body>", "<script>window.hacked = 1</script></body>"),
        ("</body>", '<img src="http://127.0.0.1:9/x.png"></body>'),
        ("</body>", '<p style="color: red">x</p></body>'),
    ],
    ids=["another script", "one more script", "a picture from elsewhere", "a style of its own"],
)
def test_what_the_policy_forbids_is_seen(browser, quick, tmp_path, old, new):
    """Each is stopped by the browser, and this suite hears of it."""
    raw = (quick / "report.html").read_text("utf-8")
    (tmp_path / "report.html").write_text(raw.replace(old, new, 1), "utf-8")
    with pytest.raises(AssertionError), opened(browser, tmp_path / "report.html") as page:
        assert page.evaluate("window.hacked") is None


def test_five_thousand_rows_are_drawn_at_once(browser, tmp_path, commands):
    """A draw from a larger run: every point is there, and one can be pointed at."""
    runs.write(tmp_path / "c.parquet", runs.table(texts(6000)))
    job = runs.write_job(tmp_path / "job.toml", runs.settings(tmp_path / "c.parquet"))
    assert commands.run("run", job, cwd=tmp_path).code == 0
    found = json.loads(commands.run("report", "run", "--json", cwd=tmp_path).out)
    assert found["shown"] == 5000
    with opened(browser, tmp_path / "run" / "report.html") as page:
        assert page.evaluate("rows.count") == 5000
        assert colours_in(page, "plane") > 20
        row = lonely(page)
        page.mouse.move(*place(page, row))
        assert page.evaluate("map.here") == row
