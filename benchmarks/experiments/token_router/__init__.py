"""An experiment: which edit a question asks for, told by its words; see README.md."""
