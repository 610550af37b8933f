"""A stride that stays on its device: nothing in it is read by the host.

Each module is a part of it, in the order of the data flow: :mod:`.layout` (which atoms
belong together), :mod:`.neighbors`, :mod:`.forecast` (the network), :mod:`.draws`
(random numbers of :mod:`.philox`), :mod:`.noise`, :mod:`.baths` (thermostats),
:mod:`.stride` (all of them, one function), :mod:`.capture` (that function as a CUDA
graph) and :mod:`.engine` (many strides in a row, and what is done about what they
report).
"""
