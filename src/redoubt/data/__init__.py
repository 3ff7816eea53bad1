"""Datasets: where they come from, how they are checked, and how a step reads them.

`sources` knows what exists (no torch, no NumPy), `fetch` brings one file here, `idx`, `cifar`, `jpeg`,
`digits` and `imagenet` turn files into tensors, `store` publishes and loads them.
"""
