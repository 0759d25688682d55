"""A service that is killed at any moment: what was acknowledged is made, and made once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys


def test_what_was_acknowledged_is_made_once_although_the_service_is_killed(tmp_path):
    driver = [sys.executable, "-m", "tests.serving.editing.kill_driver", str(tmp_path), "4", "3"]
    done = subprocess.run(driver, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    numbers = sorted(told["acknowledged"].values())
    assert numbers == list(range(1, 17)) and told["again"] == {
        name: told["acknowledged"][name] for name in told["again"]
    }
    assert any(told["left"]), "no kill came before all was made"
    assert told["made"] == {str(number): 1 for number in numbers}
    assert set(told["told"]) == set(told["made"])
    assert all(status in ("made", "failed") and edit is not None for status, edit in told["told"].values()), told[
        "told"
    ]
    assert len({edit for _, edit in told["told"].values()}) == len(numbers)
    assert told["ended"] in (0, signal.SIGTERM)  # uvicorn ends as the signal says, once all is closed
