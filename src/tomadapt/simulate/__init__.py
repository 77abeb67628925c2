"""From densities to subtomograms: optics, tilt series, reconstruction, and sets on disk.

Only the physics of image formation and what keeps its results belongs here.
"""
