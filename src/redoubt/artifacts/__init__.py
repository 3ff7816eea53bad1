"""Tables and figures, one file each; they read finished rows and never import torch.

A file has `Parameters`, `needs(parameters)` (the histories and attacks that it reads), and `draw(entry, inputs)`, which
returns a `Drawing`. `entry.parameters` are the file's `Parameters`; `inputs` gives the data, or why they are missing.
"""
