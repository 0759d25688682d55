"""Files and requests that are made to do harm: `make fuzz`, or `python -m tests.fuzz --help`.

A *format* (`formats.py`) is a sound folder, ways to damage it with its structure in mind (`mutations.py`, `values.py`), and what the library
does with such a folder (`readers.py`). Each input is read in a process of its own kind (`child.py`), which is watched from outside
(`runner.py`): one that hangs or dies is a finding, as is any error that the library does not document, memory far beyond the file, or a touch
outside of the input's folder. A finding is saved with its bytes, and `--replay FILE` reads it again.
"""
