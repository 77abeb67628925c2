"""From densities to subtomograms: optics, tilt series, reconstruction, and sets on disk.

This room holds the physics of image formation, and the storage of its results.
"""
