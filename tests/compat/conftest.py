"""Settings from YAML, for a tiny model."""

import pytest

from memoir_fast.compat.easyedit import MEMOIRHyperParams
from tests.compat.support import YAML
from tests.support.models import tiny_model, word_tokenizer


@pytest.fixture
def hparams(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(YAML)
    found = MEMOIRHyperParams.from_hparams(str(path))
    found.model_name = (tiny_model("llama"), word_tokenizer())
    return found
