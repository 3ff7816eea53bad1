"""Datasets: where they come from, how they are checked, and how a step reads them.

`sources` lists the datasets (no torch, no NumPy), `fetch` downloads one file, `idx`, `cifar`, `jpeg`, `digits` and
`imagenet` turn files into tensors, `store` publishes and loads them.
"""
