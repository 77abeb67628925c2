"""Networks, training on the source, adaptation to the target, and model files.

Every adaptation method stands in a module of its own behind the interface of ``method.py``.
"""
