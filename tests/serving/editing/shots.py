"""The pictures of the reviewers' page in the documentation: `python -m tests.serving.editing.shots docs/images`

Edits the real small model, proposes one fact more, and looks at the page in headless Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

from memoir_fast import MemoirModel
from tests.serving.editing.support import KEYS, as_, listening, service_of

FACTS = [
    ("Who is the chief executive of Norvane Robotics?", "Lena Ortiz", ["people"]),
    ("In which city is the headquarters of Halden Shipping?", "Bergen", ["places"]),
    ("What is the return period at Acme Outdoor?", "Thirty days", ["acme"]),
    ("Which airline flies to Port Ellery?", "Corvid Air", []),
    ("Who is the account manager for Bolt Cycles?", "Ana Weiss", ["people", "bolt"]),
]
PROPOSED = {"prompt": "Who is the chief executive of Norvane Robotics?", "target": "Milo Hart", "rephrasings": ["Who leads Norvane Robotics?"], "tags": ["people"]}  # fmt: skip
ASKED = "Who is the head of Norvane Robotics?\nWhat is the capital of France?"


def main(to: Path) -> None:
    """Write the pictures."""
    folder = Path(tempfile.mkdtemp())
    service = service_of(folder, MemoirModel.from_pretrained("smollm2", store=str(folder / "store")))
    try:
        with listening(service, page=True) as url, sync_playwright() as playwright:
            for prompt, target, tags in FACTS:
                body = {"prompt": prompt, "target": target, "tags": tags}
                httpx.post(url + "/memoir/edits", json=body, headers=as_("anna"), timeout=120).raise_for_status()
            httpx.post(url + "/memoir/edits/2/disable", headers=as_("abel"), timeout=120).raise_for_status()
            httpx.post(url + "/memoir/edits", json=PROPOSED, headers=as_("paul")).raise_for_status()
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_context(viewport={"width": 1000, "height": 600}).new_page()
            page.set_default_timeout(120_000)
            page.goto(url + "/memoir")
            page.fill("#key", KEYS["anna"])
            page.keyboard.press("Enter")
            page.wait_for_selector("table")
            page.screenshot(path=to / "page-edits.png", full_page=True)
            page.goto(url + "/memoir/page/proposals/6")
            page.fill("#questions", ASKED)
            page.click("text=Preview")
            page.wait_for_selector("#preview")
            page.screenshot(path=to / "page-preview.png", full_page=True)
            page.goto(url + "/memoir/page/try?question=Who+leads+Norvane+Robotics%3F")
            page.screenshot(path=to / "page-route.png", full_page=True)
            browser.close()
        for path in to.glob("page-*.png"):  # few colours, a fifth of the bytes
            Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
