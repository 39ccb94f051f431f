"""The page of ``marssep serve`` as a person uses it, in headless Chromium."""

import json
import shutil
import time

import pytest
import soundfile
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.forms import picture, sound
from tests.support.live_server import live_server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(
        not (BROWSER and DRIVER),
        reason="needs chromium and chromedriver (apt-get install chromium-driver)",
    ),
]
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    # A microphone that beeps, and a person who allows it.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
# In cold runs the network compiles first.
PATIENCE_S = 60


class Page:
    """The page in a window of a browser."""

    def __init__(self, driver, address):
        self.driver = driver
        self.address = address
        driver.get(address)
        self.until(lambda: self.get("mixture-limits").text)
        self.window = driver.current_window_handle

    def get(self, name):
        return self.driver.find_element(By.ID, name)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, true):
        return WebDriverWait(self.driver, PATIENCE_S, 0.05).until(lambda _: true())

    def enter(self):
        self.driver.switch_to.window(self.window)

    def choose(self, *paths, field="mixture-file"):
        self.get(field).send_keys("\n".join(map(str, paths)))

    def drop(self, panel, name, kind):
        """Drop a file that holds a few words onto a panel."""
        self.run(
            "const data = new DataTransfer();"
            "data.items.add(new File(['no recording'], arguments[1], "
            "{type: arguments[2]}));"
            "document.getElementById(arguments[0]).dispatchEvent("
            "new DragEvent('drop', {dataTransfer: data, cancelable: true}))",
            panel,
            name,
            kind,
        )

    def add(self, words):
        self.get("words").send_keys(words + "\n")

    def result(self):
        """Wait until a separation has come to an end; return the error or ""."""
        self.until(lambda: not self.get("working").is_displayed())
        return self.get("error").text


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in OPTIONS:
        options.add_argument(option)
    downloads = str(tmp_path / "downloads")
    options.add_experimental_option("prefs", {"download.default_directory": downloads})
    options.set_capability(
        "goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"}
    )
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def address(separator, scratch):
    with live_server(separator) as port:
        yield f"http://127.0.0.1:{port}/"
    assert list(scratch.iterdir()) == []


@pytest.fixture
def files(tmp_path):
    """Write recordings and a picture as a person might have them."""
    contents = {
        "two seconds.wav": sound(2.0, 44_100, 2),
        "five seconds.flac": sound(5.0, 22_050, kind="FLAC"),
        "clip.ogg": sound(0.5, kind="OGG"),
        "photo.png": picture(),
    }
    for name, raw in contents.items():
        (tmp_path / name).write_bytes(raw)
    return tmp_path


def test_a_visit(browser, address, files, left, tmp_path):
    page = Page(browser, address)
    page.get("go").click()
    assert "a mixture is missing" in page.get("error").text
    page.choose(files / "two seconds.wav")
    page.get("go").click()
    assert "add words, a clip or a picture" in page.get("error").text

    page.drop("query", "dropped.wav", "audio/wav")
    assert [node.text for node in page.all("#items .what")] == ["dropped.wav"]
    page.all("#items .leave")[0].click()
    page.add("violin")
    page.choose(files / "clip.ogg", files / "photo.png", field="item-file")
    names = [node.text for node in page.all("#items .what")]
    assert names == ["violin", "clip.ogg", "photo.png"]
    page.run(
        "arguments[0].value = 2.5; arguments[0].dispatchEvent(new Event('input'))",
        page.all("#items input[type=range]")[1],
    )
    assert [node.text for node in page.all("#items output")] == ["1.0", "2.5", "1.0"]
    page.all("#items input[type=checkbox]")[2].click()
    page.get("go").click()
    assert page.result() == ""
    assert "0:02, 44.1 kHz" in page.get("summary").text
    page.until(lambda: left() == [])  # the page has it all

    # Three can be heard; the playing place moves over all four pictures.
    assert len(page.all("#cards audio")) == 3
    assert page.run(
        "return [...document.images].every(i => i.complete && i.naturalWidth)"
    )
    page.run("document.querySelector('[data-name=estimate] audio').play()")
    place = "return document.querySelectorAll('.head')[arguments[0]].style.left"
    page.until(lambda: float(page.run(place, 1).rstrip("%") or 0) > 10)
    page.run("document.querySelector('[data-name=residual] audio').play()")
    page.until(
        lambda: page.run(
            "return document.querySelector('[data-name=estimate] audio').paused"
        )
    )

    for name in ("estimate", "residual"):
        page.all(f"[data-name={name}] .save")[0].click()
        path = tmp_path / "downloads" / f"two seconds_{name}.wav"
        page.until(path.exists)
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (44_100, 2)
        assert info.frames == 88_200

    # Whatever went wrong is one line, and what was there stays.
    page.drop("mixture", "notes.wav", "audio/wav")
    page.get("go").click()
    assert page.result().startswith("mixture is 'notes.wav', expected a readable wav")
    assert page.get("results").is_displayed()

    page.get("record").click()
    page.until(lambda: "0:01" in page.get("record-label").text)
    page.get("record").click()
    page.until(lambda: page.get("mixture-name").text == "recording.wav")
    page.get("go").click()
    assert page.result() == ""
    assert "0:01" in page.get("summary").text

    assert [row for row in browser.get_log("browser") if "400" not in str(row)] == []
    for url in asked(browser):
        assert url.startswith((address, "blob:", "data:")), url


def asked(browser):
    """Return every address that the page's windows have asked for."""
    rows = [json.loads(row["message"]) for row in browser.get_log("performance")]
    sent = [r["message"] for r in rows]
    urls = [
        row["params"]["request"]["url"]
        for row in sent
        if row["method"] == "Network.requestWillBeSent"
    ]
    assert len(urls) > 10
    return urls


def test_two_users_at_once(browser, address, files, left):
    first = Page(browser, address)
    browser.switch_to.new_window("window")
    second = Page(browser, address)
    for page, name in ((first, "five seconds.flac"), (second, "two seconds.wav")):
        page.enter()
        page.choose(files / name)
        page.add("violin")
    for page in (first, second):
        page.enter()
        page.get("go").click()
    for page, shown in ((first, "0:05, 22.05 kHz"), (second, "0:02, 44.1 kHz")):
        page.enter()
        assert page.result() == ""
        assert shown in page.get("summary").text
    first.until(lambda: left() == [])


@pytest.mark.parametrize("width", [420, 1280])
def test_nothing_sticks_out(browser, address, files, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page = Page(browser, address)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.choose(files / "two seconds.wav")
    page.add("a sound with an unreasonablylongnamethatgoesonandonandonandonandon")
    page.get("go").click()
    assert page.result() == ""
    time.sleep(0.2)  # laid out
    assert page.run("return document.documentElement.scrollWidth") <= width
    rights = "return [...document.querySelectorAll('main *')].map("
    rights += "node => node.getBoundingClientRect().right)"
    assert max(page.run(rights)) <= width
