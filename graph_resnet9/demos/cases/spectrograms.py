"""Signals like the log spectrograms of short words, drawn. No TensorFlow."""

import numpy as np

FRAMES, BANDS = 98, 64
# Where the two tracks of a class begin and end, in bands.
_TRACKS = (
  ((14, 14), (40, 40)),
  ((14, 14), (40, 56)),
  ((14, 14), (56, 40)),
  ((14, 28), (56, 40)),
  ((28, 14), (40, 56)),
  ((28, 28), (40, 40)),
  ((28, 28), (56, 56)),
  ((14, 28), (40, 56)),
  ((28, 14), (56, 40)),
  ((28, 14), (56, 56)),
)
CLASSES = len(_TRACKS)
_NOISE = 0.5  # Standard deviation, of the logarithm.


def signals(examples, seed):
  """Draws signals, each of a class drawn at random.

  The class is in how the pitch of two tracks moves. Onset, length, pitch and
  width of the tracks are random. So are their loudness and the level of the
  background, which say nothing about the class, and which one signal has and
  the next has not.

  Args:
    examples: int, how many.
    seed: int in 0 .. 2**32 - 1.
  Returns:
    ([examples, 98, 64] float32, frames and bands; [examples] int32 labels).
  """
  random_state = np.random.RandomState(seed)
  labels = random_state.randint(0, CLASSES, examples).astype(np.int32)
  return np.stack(
    [_signal(_TRACKS[label], random_state) for label in labels]
  ).astype(np.float32), labels


def _signal(tracks, random_state):
  """[98, 64] float64: a signal of the class that has these tracks."""
  uniform = random_state.uniform
  # The tracks sound from 0 to 1.
  time = (np.arange(FRAMES)[:, None] - uniform(0, 20)) / uniform(45, 75)
  sounds = (time >= 0) & (time <= 1)
  pitch, width = uniform(-4, 4), uniform(1.5, 2.5)
  loudness, background = uniform(1, 4), uniform(-4, 1)
  power = np.exp(background)
  for begin, end in tracks:
    centre = begin + (end - begin) * time + pitch
    off = (np.arange(BANDS) - centre) / width
    power = power + sounds * np.exp(loudness - off**2 / 2)
  return np.log(power) + random_state.normal(0, _NOISE, [FRAMES, BANDS])
