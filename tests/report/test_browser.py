"""The report of `unlir explain` in a real browser, where there is one."""

import browser
import numpy as np
import pytest
from PIL import Image
from report_samples import write_report

pytestmark = pytest.mark.skipif(
    browser.find() is None,
    reason=f"no browser is installed; expected one of {', '.join(browser.NAMES)}",
)
NARROW, WIDE = 390, 1200


@pytest.fixture(scope="module")
def window():
    with browser.running() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Write the report of three noisy pictures and four methods."""
    return write_report(tmp_path_factory.mktemp("report") / "report.html").as_uri()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [WIDE, 760, NARROW])
def test_the_page_fits_and_asks_for_nothing(window, address, width, dark):
    window.open(address, width, dark=dark)
    assert window.value("document.documentElement.scrollWidth") <= width
    assert window.complaints() == []
    assert window.requests() == [address]
    paper = window.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 21, 24)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("width", [WIDE, 760, NARROW])
def test_no_panel_is_alone(window, address, width):
    window.open(address, width)
    tops = window.value(
        "[...document.querySelector('.panels').querySelectorAll('figure')]"
        ".map(e => Math.round(e.getBoundingClientRect().top))"
    )
    # What stands next to the picture on a phone is the list of its classes.
    rows = np.unique(tops[1:] if width < WIDE else tops, return_counts=True)[1]
    assert len(tops) == 9 and (rows >= 2).all()


def test_a_panel_enlarges_by_click_and_key(window, address):
    window.open(address, WIDE)
    small = window.value("document.querySelector('.over').offsetWidth")
    window.click("button.enlarge .over")
    assert window.value("document.querySelector('dialog').open")
    shown = "document.querySelector('.stage .layers').offsetWidth"
    assert window.value(shown) > 2 * small
    caption = "document.querySelector('dialog .caption').textContent"
    assert "Grad-CAM" in window.value(caption)
    window.press("ArrowRight")
    assert "Seen through the map" in window.value(caption)
    window.press("ArrowLeft")
    window.press("ArrowLeft")
    assert "What the network sees" in window.value(caption)
    window.press("Escape")
    assert not window.value("document.querySelector('dialog').open")
    window.value("document.querySelector('button.enlarge').focus()")
    window.press("Enter")
    assert window.value("document.querySelector('dialog').open")
    window.click("dialog form button")
    assert not window.value("document.querySelector('dialog').open")
    assert window.complaints() == []


def test_the_slider_shows_the_picture_under_the_map(window, address, tmp_path):
    window.open(address, WIDE)
    box = window.value(
        "(b => [b.x, b.y, b.right, b.bottom])"
        "(document.querySelector('.over').getBoundingClientRect())"
    )
    under = window.value(
        "(b => [b.x, b.y, b.right, b.bottom])"
        "(document.querySelector('article img').getBoundingClientRect())"
    )

    def seen():
        window.photograph(tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as page:
            corners = [tuple(map(round, each[:2])) for each in (box, under)]
            sides = [
                np.asarray(page.convert("RGB").crop((x, y, x + 200, y + 200)), int)
                for x, y in corners
            ]
        return abs(sides[0] - sides[1]).mean()

    assert seen() > 20
    window.value(
        "(e => { e.value = 0; e.dispatchEvent(new Event('input')); })"
        "(document.querySelector('.legend .opacity input'))"
    )
    # The two stand at other halves of a pixel.
    assert seen() < 5
    assert window.value("document.querySelector('dialog input').value") == "0"


def test_a_table_that_scrolls_shows_it_and_one_that_fits_does_not(
    window, address, tmp_path
):
    def right_edge(width):
        window.open(address, width)
        window.value(
            "document.querySelector('.scroll')"
            ".scrollIntoView({block: 'center', behavior: 'instant'})"
        )
        x, y = window.value(
            "(b => [b.right - 2, b.top + b.height / 2])"
            "(document.querySelector('.scroll').getBoundingClientRect())"
        )
        window.photograph(tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as page:
            return page.convert("L").getpixel((int(x), int(y)))

    assert right_edge(WIDE) == 255
    assert right_edge(NARROW) < 235
