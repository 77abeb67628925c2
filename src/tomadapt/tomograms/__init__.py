"""From a tomogram to subtomograms: where particles are, and the cubes around them.

What reads or writes files of other programs is in :mod:`tomadapt.io`.
"""
