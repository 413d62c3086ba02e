"""Post-training quantization.

TinySAM's method (`quantizers`, `task_loss`, `search`), a simulation of any number of bits
(`simulation`), and models that kernels of 8-bit integers run (`run`).
"""
