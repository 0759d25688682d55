"""The package as a whole: imports that do nothing, and the real model."""

from __future__ import annotations

import subprocess
import sys


def test_importing_does_nothing():
    code = (
        "import random, logging, sys; a = random.getstate(); h = list(logging.root.handlers)\n"
        "import memoir_fast; assert 'torch' not in sys.modules\n"
        "import torch; b = torch.get_rng_state()\n"
        "import memoir_fast.model, memoir_fast.cli, memoir_fast.evaluation.protocol\n"
        "assert random.getstate() == a and torch.equal(torch.get_rng_state(), b) and logging.root.handlers == h\n"
        "assert not torch.cuda.is_initialized()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_real_model_learns_demo_facts_and_forgets_nothing_else(smollm2):
    from memoir_fast import MemoirModel

    model = MemoirModel(*smollm2)
    try:
        questions = ["What colour is a ripe banana?", "How many days are there in a week?"]
        before = model.ask(questions)
        model.edit("Who is the chief executive of Norvane Robotics?", "Lena Ortiz")
        assert model.ask("Who is the chief executive of Norvane Robotics?").strip().startswith("Lena Ortiz")
        assert model.route("The person who leads Norvane Robotics as chief executive is")["edit"] == 0
        assert model.ask(questions) == before
    finally:
        model.detach()
