"""A real browser without a screen, where the machine has one: Chromium and its driver."""

import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, whose console is read."""
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("needs chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture
def console(browser):
    """What the browser's console says of errors since the test began."""
    browser.get_log("browser")
    return lambda: [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def until():
    """Wait for something to become true, and give it."""
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    return lambda browser, condition: wait(browser, 20, 0.05).until(lambda _: condition())
