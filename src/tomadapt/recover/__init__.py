"""Structures out of labelled particles: alignment, averages, their resolution, and new classes."""
