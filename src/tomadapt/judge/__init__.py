"""The likelihood as the judge: which structure, if any, explains a particle best.

``rivals`` makes what wanted structures compete with, ``noise`` measures the noise between
particles, ``screen`` compares all structures in all poses at low resolution, ``refine`` the best
few at full resolution, ``groups`` knows particles of several recordings, ``null`` what evidence
noise has, ``misfit`` looks at contrast and at what is left unexplained, ``mixture`` turns evidence
into probabilities and false-discovery rates, ``judge`` does all of it for a set of particles.
"""
