"""WaveSSM: a small image-restoration network in mixed precision, and the program that trains it.

It is the training run this project was made for: a spectral branch whose Fourier magnitudes overflow float16 when a
frame is over-exposed, after which BatchNorm statistics stay non-finite, no validation batch is valid and no checkpoint
may be saved. `python examples/wavessm/train.py` runs it from a checkout, `python -m trainvitals_examples.wavessm.train`
from an installation; `three_ways.py` compares the run without, with automatic and with manual repair.
"""
