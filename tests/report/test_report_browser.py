"""The page in Chromium, as people use it; skipped where there is no Chromium."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from report_runs import make_job, make_run, zoo

from nmfnet.report.dashboard import Dashboard
from nmfnet.report.page import report

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    zoo(root / "runs")
    make_run(root / "runs", "late", seed=9, metrics={"converged": False}, config={"max_iter": 5})
    make_job(root / "runs/sweeps/x", 0, root / "runs/nmf/no", "failed", error="it went wrong")
    return report(root / "runs", root / "report.html")


@pytest.fixture
def browser(chromium, file):
    """The page, freshly loaded in a wide window; no message in the console at the end."""
    width(chromium, 1400)
    chromium.get("about:blank")
    chromium.get(file.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []


def width(browser, pixels: int) -> None:
    size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def rows(browser) -> list[list[str]]:
    return browser.execute_script(
        "return [...document.querySelectorAll('#table tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText))"
    )


def column(browser, key: str) -> list[str]:
    heads = browser.find_elements(By.CSS_SELECTOR, "#table thead th")
    at = [h.find_elements(By.ID, f"sort:{key}") != [] for h in heads].index(True)
    return [row[at] for row in rows(browser)]


def click(browser, identity: str) -> None:
    browser.find_element(By.ID, identity).click()


def pick(browser, identity: str, text: str) -> None:
    Select(browser.find_element(By.ID, identity)).select_by_visible_text(text)


def search(browser, text: str) -> None:
    box = browser.find_element(By.ID, "q")
    box.clear()
    box.send_keys(text)
    time.sleep(0.4)


def test_shows_every_section_of_the_largest_group(browser):
    assert len(rows(browser)) == 27
    assert "worse" in browser.find_element(By.ID, "compared").text
    assert "noise" in browser.find_element(By.ID, "compared").text
    for chart in ("rank-error", "rank-stable", "conv-iter", "conv-sec"):
        assert browser.find_elements(By.CSS_SELECTOR, f"#{chart} svg polyline")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#pictures img")) == 9
    assert "it went wrong" in browser.find_element(By.ID, "lost").text
    assert len([row for row in rows(browser) if "★" in row[0]]) == 3


def test_sorts_by_a_press_and_back_by_another(browser):
    def errors():
        return [float(x) for x in column(browser, "test/relative_error")]

    assert errors() == sorted(errors())
    click(browser, "sort:test/relative_error")
    assert errors() == sorted(errors(), reverse=True)
    head = browser.find_element(By.CSS_SELECTOR, "#table th[aria-sort]")
    assert head.get_attribute("aria-sort") == "descending"
    click(browser, "sort:seed")
    assert [int(x) for x in column(browser, "seed")] == [0] * 9 + [1] * 9 + [2] * 9


def test_filters_by_setting_words_and_numbers(browser):
    pick(browser, "f:model", "ae")
    assert set(column(browser, "model")) == {"ae"}
    pick(browser, "f:model.n_components", "4")
    assert len(rows(browser)) == 3
    click(browser, "reset")
    assert len(rows(browser)) == 27
    search(browser, "convex seed=1")
    assert len(rows(browser)) == 3
    search(browser, "test/relative_error<0.4")
    assert 0 < len(rows(browser)) < 27
    assert max(float(x) for x in column(browser, "test/relative_error")) < 0.4
    search(browser, "nothing like this")
    assert rows(browser) == []


def test_columns_can_be_chosen(browser):
    browser.find_element(By.CSS_SELECTOR, ".columns summary").click()
    click(browser, "col:seconds")
    assert browser.find_elements(By.ID, "sort:seconds") == []
    click(browser, "col:floor/relative_error")
    assert {float(x) for x in column(browser, "floor/relative_error")} == {0.2}


def test_a_run_opens_steps_and_closes_by_keyboard_alone(browser):
    first, second = (row[0].split()[-1].strip("★⚠") for row in rows(browser)[:2])
    link = browser.find_element(By.CSS_SELECTOR, "#table tbody .link")
    browser.execute_script("arguments[0].focus()", link)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    dialog = browser.find_element(By.ID, "run")
    assert dialog.get_attribute("open")
    for word in ("The command that repeats it", "Numbers", "Settings", first):
        assert word in dialog.text
    assert len(dialog.find_elements(By.TAG_NAME, "img")) == 2
    assert "run=" in browser.current_url
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert second in browser.find_element(By.ID, "run-h").text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    time.sleep(0.2)
    assert not dialog.get_attribute("open")
    assert browser.switch_to.active_element.get_attribute("id").startswith("run:")
    assert "run=" not in browser.current_url


def test_focus_stays_on_what_was_pressed(browser):
    button = browser.find_element(By.ID, "sort:seed")
    browser.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "sort:seed"


def test_the_comparison_turns_round_with_its_reference(browser):
    def table():
        cells = browser.find_elements(By.CSS_SELECTOR, "#compared tbody tr")
        return {(c := row.text.split())[0]: (c[1], float(c[2])) for row in cells}

    before = table()["convex_nmf"]
    assert before[0] == "worse"
    pick(browser, "c-ref", "convex_nmf")
    assert table()["nmf"] == ("better", -before[1])
    pick(browser, "c-size", "8")
    assert table()["nmf"][0] == "better"


def test_runs_on_unequal_terms_are_kept_apart(browser):
    group = Select(browser.find_element(By.ID, "group"))
    group.select_by_visible_text(group.options[1].text)
    assert "max_iter=5" in group.options[1].text
    assert len(rows(browser)) == 1
    assert "Nothing to pair" in browser.find_element(By.ID, "compared").text
    group.select_by_value("all")
    assert len(rows(browser)) == 28
    compared = browser.find_element(By.ID, "compared").text
    assert "not on equal terms are not compared" in compared
    browser.find_element(By.CSS_SELECTOR, "#compared summary").click()
    assert "max_iter: 1000 / 5" in browser.find_element(By.ID, "compared").text


def test_a_curve_is_drawn_where_only_some_runs_have_a_floor(chromium, tmp_path):
    make_run(tmp_path / "runs", "bounded")
    make_run(tmp_path / "runs", "free", model="vae", k=10, metrics={"floor/relative_error": None})
    chromium.get(
        report(tmp_path / "runs", tmp_path / "report.html").as_uri() + "#rerr=train/relative_error"
    )
    assert chromium.find_elements(By.CSS_SELECTOR, "#rank-error .grid")
    assert "NaN" not in chromium.find_element(By.ID, "rank-error").get_attribute("innerHTML")


def test_a_method_can_be_hidden_from_the_curves(browser):
    def lines():
        return len(browser.find_elements(By.CSS_SELECTOR, "#conv-iter svg polyline"))

    before = lines()
    click(browser, "legend-conv:ae")
    assert lines() == before - 3
    assert browser.find_element(By.ID, "legend-rank:ae").get_attribute("aria-pressed") == "false"


def test_the_address_restores_the_view(browser, file):
    pick(browser, "f:model", "ae")
    click(browser, "sort:seed")
    before, address = rows(browser), browser.current_url
    browser.get("about:blank")
    browser.get(address)
    assert rows(browser) == before


@pytest.mark.parametrize("pixels", [360, 400, 768, 1400])
def test_nothing_sticks_out_of_narrow_screens(browser, pixels):
    width(browser, pixels)
    browser.refresh()
    script = "return [document.documentElement.scrollWidth, innerWidth]"
    wide, window = browser.execute_script(script)
    assert wide <= window
    browser.find_element(By.CSS_SELECTOR, "#table tbody .link").click()
    script = "const d = document.getElementById('run'); return [d.scrollWidth, d.clientWidth]"
    wide, window = browser.execute_script(script)
    assert wide <= window


def test_every_control_and_picture_has_a_name(browser):
    script = """
        const wanted = "button, input, select, img, svg[role=img], dialog";
        const named = (e) => e.getAttribute("aria-label") || e.getAttribute("aria-labelledby")
          || e.alt || e.textContent.trim() || e.closest("label")?.textContent.trim()
          || (e.id && document.querySelector(`label[for="${e.id}"]`));
        const all = [...document.querySelectorAll(wanted)];
        return all.filter((e) => !named(e)).map((e) => e.outerHTML);
    """
    assert browser.execute_script(script) == []


def test_dark_and_light(browser):
    script = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(script)
    click(browser, "theme")
    assert browser.execute_script(script) != light
    click(browser, "theme")
    assert browser.execute_script(script) == light


def test_one_run_is_enough_for_a_page(chromium, tmp_path):
    make_run(tmp_path / "runs", "only")
    width(chromium, 1400)
    chromium.get(report(tmp_path / "runs", tmp_path / "one.html").as_uri())
    assert len(rows(chromium)) == 1
    assert "Nothing to pair" in chromium.find_element(By.ID, "compared").text
    assert chromium.get_log("browser") == []


def test_the_dashboard_reloads_itself_and_keeps_filters_and_words(chromium, tmp_path):
    make_run(tmp_path, "a", seed=1)
    make_run(tmp_path, "b", seed=2)
    server = Dashboard(tmp_path, 0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        chromium.get(f"http://127.0.0.1:{server.server_port}/")
        search(chromium, "seed=1")
        assert len(rows(chromium)) == 1
        assert chromium.find_element(By.ID, "live").text == "live"
        make_run(tmp_path, "c", model="ae", seed=1)
        for _ in range(40):
            time.sleep(0.25)
            if len(rows(chromium)) == 2:
                break
        assert set(column(chromium, "seed")) == {"1"}
        assert len(rows(chromium)) == 2
        assert chromium.switch_to.active_element.get_attribute("id") == "q"
        assert chromium.get_log("browser") == []
    finally:
        server.shutdown()
        server.server_close()


def test_a_number_that_a_run_has_not_is_not_in_its_caption(chromium, tmp_path):
    folder = make_run(tmp_path / "runs", "a")
    numbers = json.loads((folder / "metrics.json").read_text())
    kept = {key: value for key, value in numbers.items() if not key.endswith(("loss", "error"))}
    (folder / "metrics.json").write_text(json.dumps(kept))
    chromium.get(report(tmp_path / "runs", tmp_path / "report.html").as_uri())
    caption = chromium.find_element(By.CSS_SELECTOR, "#pictures button span").text
    assert caption.split() == ["nmf", "·", "4", "components"]
