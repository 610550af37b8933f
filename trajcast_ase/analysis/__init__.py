"""Trajectory to numbers to figure.

Works on plain arrays in Å, fs and amu, whichever program made them; `plots` is the
only part that imports matplotlib.
"""
