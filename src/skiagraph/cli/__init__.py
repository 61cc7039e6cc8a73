"""The command line. Libraries' own notices and loading bars stay quiet in it unless their variables ask for them."""

import os

for _name, _value in (
    ("DIFFUSERS_VERBOSITY", "error"),
    ("TRANSFORMERS_VERBOSITY", "error"),
    ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
):
    os.environ.setdefault(_name, _value)  # read when these libraries are imported
