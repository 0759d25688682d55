"""Bodies that are made to do harm: each is answered with a status that says whose fault it is, never with one that says ours."""

from __future__ import annotations

import random
from collections import Counter

from tests.fuzz import values
from tests.serving.editing.support import FACT, OTHER, as_, client_of, opened, service_of
from tests.support.stores import contents

FULL = {**FACT, "rephrasings": ["w103 w104"], "not_prompts": ["w105"], "subject": "w100", "key": "k", "author": "a", "tags": ["t"], "metadata": {"a": [1, None]}}  # fmt: skip
REQUESTS = {
    "/memoir/edits?wait=0": [FACT, FULL],
    "/memoir/preview": [{"edits": [FULL], "questions": ["w100"], "stored": True, "max_new_tokens": 1}, {"changes": [{"verb": "disable", "edit": 0}]}],
    "/memoir/rollback": [{"to": 0, "confirm": "x", "empty": False}, {"to": "2026-01-31T12:00:00+00:00"}],
    "/memoir/proposals/1/reject": [{"reason": "why"}],
}  # fmt: skip


def test_damaged_bodies_are_refused_and_nothing_breaks(tmp_path):
    rng, statuses = random.Random(11), Counter()
    service = service_of(tmp_path, opened(tmp_path, steps=2), most_open=100_000, review=True)
    with client_of(service, per_minute=1_000_000) as client:
        for fact in (FACT, OTHER):
            service.model.edit(*fact.values())
        service.shelf.update()
        before = contents(service.store)
        for _ in range(250):
            path = rng.choice(list(REQUESTS))
            body = values.text_of(values.changed(rng.choice(REQUESTS[path]), rng), rng)
            body = values.raw(body, rng) if rng.random() < 0.2 else body
            answer = client.post(path, content=body, headers={**as_("anna"), "Content-Type": "application/json"})
            statuses[answer.status_code] += 1
            assert answer.status_code in (200, 202, 400, 404, 409, 413, 422), (path, body[:300], answer.text[:300])
            assert answer.status_code in (200, 202) or len(answer.json()["error"]["message"]) < 2_000
        for one in service.queue.newest(("waiting",), None, 30):  # what was let in can be tried out, or says why not
            answer = client.post("/memoir/preview", json={"proposal": one.id}, headers=as_("paul"))
            assert answer.status_code in (200, 422), (one, answer.text)
        assert contents(service.store) == before
        assert client.get("/memoir/proposals", params={"limit": 200}, headers=as_("rita")).status_code == 200
    assert statuses[422] > 60 and statuses[202] > 10 and statuses[200] > 10, statuses
