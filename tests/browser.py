"""A real browser for the tests: Debian's chromium, without a window, driven by selenium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"
WAIT = 20  # seconds for what a page does in one


def find_browser() -> tuple[str, str]:
    """The browser and its driver; skips the test where one is missing."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which(DRIVER)
    if not found or not driver:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    return found, driver


@contextmanager
def open_browser(downloads: Path, *, size: tuple[int, int] = (1200, 900), dark: bool = False) -> Iterator[Any]:
    """A browser that saves into `downloads`, and logs what its pages complain of."""
    browser, driver = find_browser()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(word)
    options.add_argument(f"--window-size={size[0]},{size[1]}")
    if dark:
        options.add_argument("--force-dark-mode")
        options.add_argument("--blink-settings=preferredColorScheme=0")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driven = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield driven
    finally:
        driven.quit()


class ReviewPage:
    """A page of review in a browser, and what a person does with it."""

    def __init__(self, driver: Any, page: Path) -> None:
        self.driver = driver
        self.driver.get(page.as_uri())
        self.wait("document.documentElement.dataset.ready === 'yes'")

    def run(self, script: str, *given: object) -> Any:
        """What a script gives, run from outside the page's policy."""
        return self.driver.execute_script(script, *given)

    def wait(self, condition: str) -> None:
        """Until a condition in the page's script holds."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, WAIT, poll_frequency=0.02).until(lambda _: self.run(f"return {condition}"))

    def press(self, *keys: str) -> None:
        """Press keys, one after another, wherever the focus is."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def hold(self, modifier: str, key: str) -> None:
        """Press a key while another is held."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def text(self, name: str) -> str:
        """What an element says."""
        return str(self.run("return document.getElementById(arguments[0]).textContent", name))

    def choose(self, name: str, value: str) -> None:
        """Set a filter."""
        self.run(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('change'))",
            name,
            value,
        )

    def active(self) -> int:
        """Index of the marked digit."""
        return int(self.run("return document.querySelector('.card.active, .box.active').id.replace(/^\\w+-/, '')"))

    def cards(self) -> list[int]:
        """Indices of the digits shown."""
        return list(self.run("return [...document.querySelectorAll('.card')].map((one) => Number(one.id.slice(6)))"))

    def save(self, folder: Path) -> Path:
        """Press the button, and wait for the file."""
        from selenium.webdriver.support.ui import WebDriverWait

        saved = folder / "corrections.json"
        saved.unlink(missing_ok=True)
        self.run("document.getElementById('save').click()")
        WebDriverWait(self.driver, WAIT, poll_frequency=0.02).until(lambda _: saved.is_file() and saved.stat().st_size)
        return saved

    def complaints(self) -> list[str]:
        """What the browser logged: errors of the script, and what the policy forbade."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
