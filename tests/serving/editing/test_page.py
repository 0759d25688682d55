"""The reviewers' page: what it shows and does, that every text is escaped, that no other site can use it, and that it works by keyboard."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from memoir_fast.serving.editing.sessions import LASTS, Sessions, same_word
from tests.serving.editing.support import FACT, KEYS, OTHER, as_, client_of, opened, service_of

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{ 7*191 }}"


class Page(HTMLParser):
    """A page as a browser without scripts sees it.

    Attributes:
        tags: (name, attributes) of every element; text: what is read.
    """

    def __init__(self, html: str):
        super().__init__()
        self.html, self.tags, self.text, self.open = html, [], "", []
        self.feed(html)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


class Browser:
    """Somebody who is logged in, and checks each page."""

    def __init__(self, client, name):
        self.client, self.name = client, name
        client.cookies.clear()
        self.cookies = {}
        answer = client.post("/memoir/page/login", data={"key": KEYS[name]}, follow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"] == "/memoir"
        self.cookies = dict(answer.cookies)
        client.cookies.clear()

    def get(self, path, code=200, /, **params):
        return self._checked(self.client.get(path, params=params or None, headers=self._cookie), code)

    def post(self, path, code=200, /, word=None, headers=None, **fields):
        fields["word"] = self.word if word is None else word
        answer = self.client.post(
            path, data=fields, headers={**self._cookie, **(headers or {})}, follow_redirects=False
        )
        if answer.status_code == 303:
            assert code == 200
            return self.get(answer.headers["location"])
        return self._checked(answer, code)

    @property
    def _cookie(self):
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    @property
    def word(self):
        return next(one["value"] for one in self.get("/memoir").all("input") if one.get("name") == "word")

    def _checked(self, answer, status):
        self.client.cookies.clear()
        assert answer.status_code == status, answer.text
        return checked(answer)


def checked(answer) -> Page:
    """What holds for every page: it loads nothing from elsewhere, runs no script, and can be used by keyboard and by screen readers."""
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert (
        "unsafe" not in policy
        and answer.headers["cache-control"] == "no-store"
        and answer.headers["x-content-type-options"] == "nosniff"
    )
    page = Page(answer.text)
    names = [name for name, _ in page.tags]
    assert not {"script", "iframe", "object", "style", "img", "base"} & set(names)
    for name, attributes in page.tags:
        assert not any(one.startswith("on") or one == "style" for one in attributes), (name, attributes)
        assert (
            "tabindex" not in attributes or attributes["tabindex"] == "-1"
        )  # the order of the keyboard is that of the page
        for one in ("href", "src", "action", "formaction"):
            assert attributes.get(one, "/memoir").startswith(("/memoir", "#main"))
    assert page.all("html")[0]["lang"] == "en" and names.count("h1") == 1 and names.count("main") == 1
    assert page.all("a")[0]["href"] == "#main" and page.all("main")[0]["id"] == "main"
    labelled = {one["for"] for one in page.all("label")}
    for one in [*page.all("input"), *page.all("select"), *page.all("textarea")]:
        assert one.get("type") == "hidden" or one["id"] in labelled, one
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert names.count("table") == names.count("caption") and all("scope" in one for one in page.all("th"))
    for one in page.all("form"):
        assert one["method"] in ("get", "post")
    assert answer.text.count('method="post"') == answer.text.count('name="word"') or "Your key" in page.text
    return page


@pytest.fixture
def client(tmp_path):
    with client_of(service_of(tmp_path, opened(tmp_path)), page=True) as found:
        yield found


def test_the_page_is_there_only_when_asked_for(tmp_path):
    with client_of(service_of(tmp_path, opened(tmp_path))) as client:
        for method, path in (
            ("GET", "/memoir"),
            ("POST", "/memoir/page/login"),
            ("GET", "/memoir/page/edits/0"),
            ("GET", "/memoir/page/style.css"),
        ):
            assert client.request(method, path).status_code == 404
        routes = checked(client.get("/memoir/docs"))
        assert "POST /memoir/edits" in routes.text and "rephrasings" in routes.text and "prompt (needed)" in routes.text


def test_who_is_not_logged_in_sees_nothing(client):
    client.post("/memoir/edits", json=FACT, headers=as_("anna"))
    for path in (
        "/memoir",
        "/memoir/page/edits/0",
        "/memoir/page/proposals",
        "/memoir/page/try?question=w100",
        "/memoir/page/rollback",
    ):
        for headers in ({}, {"Cookie": "memoir_session=made-up"}, {"Cookie": 'memoir_session="'}, as_("anna")):
            answer = client.get(path, headers=headers)
            assert answer.status_code == (200 if path == "/memoir" else 401)
            assert "Your key" in checked(answer).text and FACT["prompt"] not in answer.text
    assert client.post("/memoir/page/edits/0/disable").status_code == 401
    refused = client.post("/memoir/page/login", data={"key": "wrong"})
    assert refused.status_code == 401 and "not known" in checked(refused).text and "wrong" not in refused.text
    assert (
        client.get("/memoir/edits", headers={"Cookie": Browser(client, "anna")._cookie["Cookie"]}).status_code == 401
    )  # a cookie opens no API


def test_the_cookie_is_kept_from_scripts_and_other_sites(client):
    answer = client.post("/memoir/page/login", data={"key": KEYS["anna"]}, follow_redirects=False)
    cookie = answer.headers["set-cookie"].lower()
    assert (
        "httponly" in cookie
        and "samesite=strict" in cookie
        and "path=/memoir" in cookie
        and f"max-age={LASTS}" in cookie
    )
    assert KEYS["anna"] not in cookie
    safe = client.post("https://testserver/memoir/page/login", data={"key": KEYS["anna"]}, follow_redirects=False)
    assert "secure" in safe.headers["set-cookie"].lower()


def test_a_form_from_elsewhere_does_nothing(client):
    client.post("/memoir/edits", json=FACT, headers=as_("anna"))
    anna, abel = Browser(client, "anna"), Browser(client, "abel")
    for word in ("", "made up", abel.word):
        assert "another session" in anna.post("/memoir/page/edits/0/disable", 403, word=word).text
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert "another site" in anna.post("/memoir/page/edits/0/disable", 403, headers=headers).text
        assert client.post("/memoir/page/login", data={"key": KEYS["abel"]}, headers=headers).status_code == 403
    answer = client.post("/memoir/page/edits/0/disable", json={"word": anna.word}, headers=anna._cookie)
    assert answer.status_code == 422 and "takes a form" in answer.text
    assert client.get("/memoir/edits/0", headers=as_("rita")).json()["status"] == "active"
    assert "disabled" in anna.post("/memoir/page/edits/0/disable", headers={"Origin": "http://testserver"}).text
    behind = {
        "Origin": "https://the.proxy.example",
        "Sec-Fetch-Site": "same-origin",
    }  # as a browser sends it through a proxy
    assert "active" in anna.post("/memoir/page/edits/0/enable", headers=behind).text
    anna.post("/memoir/page/logout")
    assert "Your key" in checked(client.get("/memoir", headers=anna._cookie)).text


def test_a_reviewer_finds_approves_disables_and_rolls_back(client, tmp_path):
    paul, anna = Browser(client, "paul"), Browser(client, "anna")
    fields = {
        **FACT,
        "rephrasings": "w100 w101\n\n w103 w104 ",
        "tags": "t",
        "not_prompts": "",
        "questions": "w100 w101 w102 w160",
    }
    tried = paul.post("/memoir/page/new", do="preview", **fields)
    assert "What it would change" in tried.text and "the new edit" in tried.text and FACT["target"] in tried.text
    assert any(one.get("value") == FACT["prompt"] for one in tried.all("input"))
    assert "waits for approval" in paul.post("/memoir/page/new", do="propose", **fields).text
    assert "1 proposal waits" in anna.get("/memoir").text and "Approve" not in paul.get("/memoir/page/proposals/1").text
    tried = anna.post("/memoir/page/proposals/1/preview", questions="w170 w171")
    assert "w170 w171" in tried.text and "the new edit" in tried.text
    made = anna.post("/memoir/page/proposals/1/approve", reason="looked at")
    assert "made, as edit 0" in made.text and "Approved by anna" in " ".join(made.text.split())
    found = anna.get("/memoir", q="w102", tag="t", status="active")
    assert "1 edit," in found.text and "0 edits" in anna.get("/memoir", q="w199").text
    why = anna.get("/memoir/page/try", question="w100 w101 w102 w161")
    assert "The base model answers" in why.text and "w100, w101, w102" in why.text and "w161" in why.html
    assert "Edit 0 is disabled now" in anna.post("/memoir/page/edits/0/disable").text
    page = anna.get("/memoir/page/edits/0")
    assert (
        "disabled" in page.text
        and "anna" in page.text
        and "Enable" in page.text
        and "Edit 0 is disabled now" not in page.text
    )
    assert "Enable" not in paul.get("/memoir/page/edits/0").text
    shown = anna.post("/memoir/page/rollback", to="0")
    word = next(one["value"] for one in shown.all("input") if one.get("name") == "confirm")
    assert "1 edit would change" in shown.text
    assert "Rolled back to 0: 1 edits changed" in anna.post("/memoir/page/rollback", to="0", confirm=word).text
    assert "Nothing would change" in anna.post("/memoir/page/rollback", to="0").text
    assert "neither an edit's id nor a time" in anna.post("/memoir/page/rollback", 422, to="yesterday").text


def test_changes_are_proposed_looked_at_and_approved(client):
    for fact in (FACT, OTHER):
        client.post("/memoir/edits", json=fact, headers=as_("anna"))
    rita, paul, anna = (Browser(client, name) for name in ("rita", "paul", "anna"))
    assert "Propose to" not in rita.get("/memoir/page/edits/0").text
    assert "needs propose" in rita.post("/memoir/page/edits/0/disable", 403).text
    assert "needs propose" in rita.get("/memoir/page/rollback", 403).text
    assert [one.get("formaction") for one in paul.get("/memoir/page/edits/0").all("button")][1:] == [
        "/memoir/page/edits/0/disable", "/memoir/page/edits/0/delete"]  # fmt: skip
    assert "Propose to disable" in paul.get("/memoir/page/edits/0").text
    asked = paul.post("/memoir/page/edits/0/disable", reason=f"wrong {HOSTILE}")
    assert "Proposal 3 waits for approval" in asked.text and f"wrong {HOSTILE}" in asked.text
    assert "Approve" not in asked.text and "Take back" in asked.text
    assert "Proposal 3 (disable) is waiting" in paul.get("/memoir/page/edits/0").text
    shown = paul.post("/memoir/page/rollback", to="0")
    assert "1 edit would change" in shown.text and "Propose to roll these edits back" in shown.text
    word = next(one["value"] for one in shown.all("input") if one.get("name") == "confirm")
    asked = paul.post("/memoir/page/rollback", to="0", confirm=word, reason="a bad batch")
    assert "Proposal 4 waits for approval" in asked.text and "rollback to the point 0" in asked.text
    assert "2 proposals wait" in anna.get("/memoir").text
    listed = anna.get("/memoir/page/proposals").text
    assert "disable edit 0" in listed and "rollback to 0 (1 edits)" in listed and FACT["prompt"] in listed
    tried = anna.post("/memoir/page/proposals/3/preview", questions="w170 w171")
    assert "What it would change" in tried.text and FACT["target"] in tried.text and "w170 w171" in tried.text
    assert "1 edit would change" not in tried.text and "Tried with" not in tried.text
    done = anna.post("/memoir/page/proposals/3/approve", reason="I looked")
    assert "Proposal 3 is done" in done.text and "I looked" in done.text and "stored as" not in done.text
    assert "Proposal 4 is rejected" in anna.post("/memoir/page/proposals/4/reject", reason="not needed").text
    page = anna.get("/memoir/page/edits/0")
    told = " ".join(page.text.split())
    assert "anna for proposal 3 by paul" in told and HOSTILE in page.text and "disabled" in told
    direct = anna.post("/memoir/page/edits/1/delete", reason="recalled")
    assert "Edit 1 is deleted now" in direct.text and "recalled" in direct.text


def test_every_text_is_escaped(client):
    turned = "w110 \u202egnp.exe"
    hostile = {"prompt": f"w100 {HOSTILE}", "target": f"w150 {HOSTILE}", "rephrasings": [HOSTILE, turned], "not_prompts": [HOSTILE + "n"], "key": HOSTILE,
               "author": HOSTILE, "tags": [HOSTILE], "metadata": {HOSTILE: HOSTILE}}  # fmt: skip
    client.post("/memoir/edits", json=hostile, headers=as_("anna"))
    client.post("/memoir/edits", json=hostile, headers=as_("paul"))
    anna = Browser(client, "anna")
    first = client.get("/memoir/proposals/1", headers=as_("rita")).json()
    pages = [anna.get("/memoir"), anna.get(f"/memoir/page/edits/{first['edit']}"), anna.get("/memoir/page/proposals", status=""), anna.get("/memoir/page/proposals/2"),
             anna.get("/memoir/page/try", question=HOSTILE), anna.get("/memoir", q=HOSTILE, tag=HOSTILE), anna.post("/memoir/page/proposals/2/preview", questions=HOSTILE)]  # fmt: skip
    for page in pages:  # and each was checked for scripts and handlers
        assert (
            "<script>alert" not in page.html
            and "{{ 7*191 }}" in page.html + HOSTILE
            and "1337" not in re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.+]+", "", page.text)
        )
        assert "\u202e" not in page.html
    assert HOSTILE in pages[1].text and "\\u202e" in pages[1].text
    refused = anna.post("/memoir/page/edits/0/explode", 422)
    assert "Input should be" in refused.text


def test_an_unknown_page_and_a_bad_number(client):
    anna = Browser(client, "anna")
    for path, status in (
        ("/memoir/page/edits/99", 404),
        ("/memoir/page/edits/x", 422),
        ("/memoir/page/nothing", 404),
        ("/memoir/page/proposals/7", 404),
    ):
        assert "Not done" in anna.get(path, status).text


def test_long_lists_are_paged(client):
    for number in range(30):
        client.post("/memoir/edits", json={"prompt": f"w100 {number}", "target": "w150"}, headers=as_("paul"))
    anna = Browser(client, "anna")
    page = anna.get("/memoir/page/proposals")
    older = next(one["href"] for one in page.all("a") if one.get("rel") == "next")
    assert older == "/memoir/page/proposals?status=waiting&before=6"
    assert len(anna.get(older).all("tr")) == 6


def test_sessions_end():
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    from memoir_fast.serving.editing.keys import Caller

    cookie = f"other=1; memoir_session={sessions.begin(Caller('ann', 'read'))}"
    found = sessions.find(cookie)
    assert found.caller.name == "ann" and same_word(found, found.word) and not same_word(found, "\ud800")
    now[0] = LASTS + 1.0
    assert sessions.find(cookie) is None
