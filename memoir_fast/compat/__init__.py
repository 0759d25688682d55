"""Fronts for code written against the published editor and against EasyEdit; see `easyedit` and `run_editing`."""
