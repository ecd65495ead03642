"""The page of a run in a browser: it draws its curves, follows the run, and asks in turn."""

import json
import threading
import time

import pytest

from jaxrl_po import write_report
from jaxrl_po.host.report.server import Viewer
from tests.host.report.test_report import HOSTILE, language

# The page asks every three seconds: its clock runs twenty times as fast here.
FAST = """
for (const name of ["setTimeout", "setInterval"]) {
  const own = window[name];
  window[name] = (f, wait, ...rest) => own(f, wait / 20, ...rest);
}
"""


class Slow(Viewer):
    """Takes longer to answer than the page waits, and counts how many it answers at once."""

    now, most, asked = 0, 0, 0

    def data(self):
        """As the viewer does."""
        self.now, self.asked = self.now + 1, self.asked + 1
        self.most = max(self.most, self.now)
        time.sleep(0.4)
        self.now -= 1
        return super().data()


@pytest.fixture
def lm(tmp_path):
    sample = {"iteration": 1, "prompt": HOSTILE, "response": [5, 6], "score": 0.5}
    return language(tmp_path / "lm", [sample])


@pytest.fixture
def viewer(lm):
    viewer = Slow([lm])
    thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield viewer
    viewer.shutdown()
    thread.join()
    viewer.server_close()


def test_the_page_follows_a_run_and_asks_one_question_at_a_time(
    viewer, lm, browser, console, until
):
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FAST})
    try:
        browser.get(viewer.url)
        assert circles(browser) == 1
        with (lm / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"seed": 0, "iteration": 2, "objective/scores": 0.75}) + "\n")
        until(browser, lambda: circles(browser) == 2)
        until(browser, lambda: viewer.asked >= 5)
    finally:
        browser.get("about:blank")
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert viewer.most == 1
    assert console() == []


def test_a_report_shows_texts_as_texts_and_answers_its_buttons(lm, tmp_path, browser, console):
    browser.get(write_report([lm], tmp_path / "a.html").as_uri())
    assert browser.find_element("css selector", "#samples td.text").text.startswith("</script>")
    assert circles(browser) == 1
    browser.find_element("css selector", ".legend button").click()
    assert circles(browser) == 0
    before = browser.execute_script("return document.documentElement.dataset.theme")
    browser.find_element("id", "theme").click()
    assert browser.execute_script("return document.documentElement.dataset.theme") != before
    assert console() == []


def circles(browser):
    """Points that are drawn of the run's curve."""
    return len(browser.find_elements("css selector", "[data-metric='objective/scores'] circle"))
