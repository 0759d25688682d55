"""Keep edits on disk, replace a fact by a newer one, and take the newer one back.

python examples/store.py [FOLDER]
"""

import sys
import tempfile

from memoir_fast import MemoirModel

folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="store-")
question = "Who leads Norvane Robotics?"

model = MemoirModel.from_pretrained("smollm2", store=folder)
first = model.edit(question, "Lena Ortiz", author="ann", tags=["robots"])
newer = model.edit(question, "Milo Hart", author="ben", tags=["robots"])
print(f"edit {newer.id} replaced {newer.supersedes}:", model.ask(question))

model.delete(newer.id)  # its update is subtracted, and the edit that it had replaced answers again
print(f"edit {newer.id} deleted:", model.ask(question))

for edit, record in model.edits.items():
    print(f"{edit}: {record['prompt']} -> {record['target']}, by {record['author']}, {record['status']}")
model.close()  # flushed, and the writer's lock given back
