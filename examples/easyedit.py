"""EasyEdit's editor on top of this library: the imports change, the rest stays.

python examples/easyedit.py
"""

from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, summary_metrics

hparams = MEMOIRHyperParams.from_hparams("smollm2")  # a shipped YAML file, or a path to yours
editor = BaseEditor.from_hparams(hparams)
metrics, edited_model, restore = editor.edit(
    prompts=["The capital of the Republic of Zeltia is"],
    target_new=["Morvane"],
    rephrase_prompts=["In the Republic of Zeltia, the capital city is called"],
    locality_inputs={"neighborhood": {"prompt": ["The capital of France is"], "ground_truth": ["Paris"]}},
    sequential_edit=True,
    verbose=False,
)
print(metrics[0]["post"])
print(summary_metrics(metrics))
restore()  # the memory is as it was before
