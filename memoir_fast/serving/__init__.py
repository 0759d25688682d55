"""Serving edited models: checkpoints for vLLM (`export.py`), its plugin (`vllm/`), and the command that starts a server (`serve.py`)."""
