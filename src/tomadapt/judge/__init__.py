"""The judge: labels by likelihood, that is, which structure, if any, explains a particle best.

``rivals`` makes the structures that compete with the wanted ones, and ``noise`` measures the noise
between particles. ``screen`` compares all structures in all poses at low resolution, ``refine`` the
best few at full resolution. ``groups`` handles particles of several recordings, ``null`` measures
the evidence that structures find in noise, ``misfit`` the contrast and the residual. ``mixture``
turns evidence into probabilities and false-discovery rates. ``judge`` does all of this for a set of
particles.
"""
