"""Networks, training on the source, adaptation to the target, and model files.

Every adaptation method has a module of its own and the interface of ``method.py``.
"""
