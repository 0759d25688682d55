"""The reviewers' page in headless Chromium: by keyboard alone, without a script, and nothing is loaded from elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import httpx
import pytest

from tests.serving.editing.support import FACT, KEYS, as_, listening, opened, service_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright drives the browser")
if CHROMIUM is None:
    pytest.skip("no Chromium is installed (Debian: apt-get install chromium)", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Reviewer:
    """Somebody with a keyboard only.

    Attributes:
        page: what they see; refused: what the browser's policy stopped, and requests to anywhere but the service.
    """

    def __init__(self, browser, url):
        self.url, self.refused = url, []
        self.page = browser.new_context(viewport={"width": 1100, "height": 800}).new_page()
        self.page.set_default_timeout(120_000)  # of a machine that does much else
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.refused.append(said.text))
        self.page.on("request", lambda request: request.url.startswith(url) or self.refused.append(request.url))
        self.page.on("dialog", lambda dialog: self.refused.append(dialog.message))

    def reach(self, name: str) -> None:
        """Press Tab until the link, button or field of this name has the focus."""
        for _ in range(60):
            if name in (self.page.evaluate("(e => [e.innerText, e.ariaLabel, e.labels && e.labels[0] && e.labels[0].innerText])(document.activeElement)") or []):  # fmt: skip
                outline = self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"{name} has the focus, and does not show it"
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{name} cannot be reached by Tab")

    def press(self, name: str) -> None:
        self.reach(name)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def write(self, name: str, text: str) -> None:
        self.reach(name)
        self.page.keyboard.type(text)

    def log_in(self, name: str) -> None:
        self.page.goto(self.url + "/memoir")
        self.write("Your key", KEYS[name])
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def shot(self, name: str) -> None:
        """A picture of the page, where somebody asked for pictures; and no part of it is wider than the page."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        if os.environ.get("MEMOIR_FAST_SHOTS"):
            self.page.screenshot(path=Path(os.environ["MEMOIR_FAST_SHOTS"]) / f"{name}.png", full_page=True)

    @property
    def text(self) -> str:
        return self.page.inner_text("main")


def test_a_review_by_keyboard(tmp_path, browser):
    hostile = {"prompt": "w110 w111", "target": "w151 <script>alert(1)</script><img src=x onerror=alert(2)>"}
    with listening(service_of(tmp_path, opened(tmp_path)), page=True) as url:
        for fact in ({**FACT, "tags": ["t"], "rephrasings": ["w103 w102"]}, hostile):
            assert httpx.post(url + "/memoir/edits", json=fact, headers=as_("paul"), timeout=120).status_code == 202
        anna = Reviewer(browser, url)
        anna.log_in("anna")
        assert "2 proposals wait for approval" in anna.text
        anna.press("2 proposals wait for approval")
        anna.shot("proposals")
        anna.press("Proposal 1: new edit w100 w101 w102")
        anna.write("Further questions to ask before and after, one a line", "w100 w101 w102 w160")
        anna.press("Preview")
        assert "What it would change" in anna.text and "the new edit" in anna.text
        anna.shot("preview")
        anna.write("Reason", "looked at")
        anna.press("Approve")
        assert "Proposal 1 is made, as edit 0" in anna.text
        anna.press("Proposals")
        anna.press("Proposal 2: new edit w110 w111")
        assert "<script>alert(1)</script>" in anna.text
        anna.press("Approve")
        anna.press("Edits")
        anna.shot("edits")
        anna.press("Edit 0: w100 w101 w102")
        anna.press("Disable")
        assert "Edit 0 is disabled now" in anna.text and "anna" in anna.text
        anna.shot("edit")
        anna.press("Roll back")
        anna.write("To the state after an edit (its number), or at a time (like 2026-01-31T12:00:00+00:00)", "0")
        anna.press("Show what would change")
        assert "1 edit would change" in anna.text
        anna.shot("rollback")
        anna.press("Roll these edits back")
        assert "Rolled back to 0" in anna.text
        anna.press("Try a question")
        anna.write("Question", "w100 w101 w102 w161")
        anna.press("Ask")
        assert "Words it shares" in anna.text and "w100, w101, w102" in anna.text
        anna.shot("route")
        paul = Reviewer(browser, url)
        paul.log_in("paul")
        paul.press("Edit 0: w100 w101 w102")
        paul.write("Reason", "recalled")
        paul.press("Propose to disable")
        assert "Proposal 3 waits for approval" in paul.text and "Take back" in paul.text
        anna.press("Proposals")
        anna.press("Proposal 3: disable edit 0 w100 w101 w102")
        anna.press("Preview")
        assert "What it would change" in anna.text
        anna.shot("change")
        anna.press("Approve")
        assert "Proposal 3 is done" in anna.text
        anna.press("Log out")
        assert "Your key" in anna.text
        assert anna.refused == []
