"""The built site in a browser: what is searched is found, figures and formulas are drawn."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from docs.hooks import ROOT

SITE = ROOT / "build" / "site"
# All but architecture/, whose picture a browser draws by a script that it fetches.
PAGES = ["", "learn/trust_region/", "methods/ppo/", "results/which/", "guide/devices/", "api/"]


class Quiet(SimpleHTTPRequestHandler):
    """Tells no requests."""

    def log_message(self, format, *args):
        """Nothing."""


@pytest.fixture(scope="module")
def address():
    if not (SITE / "index.html").exists():
        pytest.skip("needs the site: mkdocs build --strict")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_drawn_without_an_error(page, address, browser, console, until):
    browser.get(address + page)
    until(browser, lambda: browser.execute_script("return document.readyState") == "complete")
    undrawn = "return [...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
    assert browser.execute_script(undrawn) == []
    assert browser.find_element("tag name", "h1").text
    assert console() == []


def test_formulas_are_drawn(address, browser):
    browser.get(address + "learn/trust_region/")
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().width)"
    )
    assert min(sizes) > 1
    assert "\\theta" not in browser.find_element("tag name", "article").text


@pytest.mark.parametrize(
    ("words", "path"),
    [("conjugate gradient", "methods/npg"), ("coordinator", "guide/devices")],
)
def test_what_is_searched_is_found(words, path, address, browser, console, until):
    browser.get(address)
    browser.find_element("css selector", "[data-md-component=search-query]").send_keys(words)
    until(browser, lambda: path in found(browser))
    assert console() == []


def test_nothing_is_found_of_what_is_not_there(address, browser, until):
    browser.get(address)
    browser.find_element("css selector", "[data-md-component=search-query]").send_keys("zqxjkv")
    result = browser.find_element("css selector", ".md-search-result__meta")
    until(browser, lambda: "No matching" in result.get_attribute("textContent"))
    assert found(browser) == ""


def found(browser):
    """The addresses that a search has shown."""
    links = browser.find_elements("css selector", ".md-search-result__link")
    return " ".join(link.get_attribute("href") for link in links)
