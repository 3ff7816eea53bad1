"""Tables and figures, one file each; they read finished rows and never touch torch.

A file has `Parameters`, `needs(parameters)` (the histories and attacks that it reads), and `draw(entry, inputs)`, which
returns a `Drawing`. `inputs` gives the data; what is missing comes with its reason.
"""
