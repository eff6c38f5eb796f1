"""ResNet9 on CIFAR-10 as a TensorFlow 1 graph.

Importing the package sets two environment variables, both of which TensorFlow
reads when it is loaded, and nothing else: no op is built, no global TensorFlow
switch is touched, so the package can live in a program of another style.

  TF_USE_LEGACY_KERAS=1     tf.compat.v1.layers.* raises "not available with
                            Keras 3" without it (and without tf-keras).
  TF_ENABLE_ONEDNN_OPTS=1   unless already set. Off by default on CPUs without
                            AVX512-VNNI, where it makes training 1.7 times as
                            fast; it has no effect on the GPU.
"""

import os

os.environ['TF_USE_LEGACY_KERAS'] = '1'
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')

__version__ = '1.0.0'
