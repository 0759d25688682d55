"""Drop-in replacements for the published editor and for EasyEdit; see `easyedit` and `run_editing`."""
