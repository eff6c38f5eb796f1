"""Packaging of graph_resnet9; see BUILD.md."""

import setuptools

setuptools.setup(
  name='graph_resnet9',
  version='0.1.0',
  description='ResNet9 on CIFAR-10 in a TensorFlow 1 graph, and what goes '
  'wrong with batch normalisation there',
  long_description=open('README.md').read(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['graph_resnet9*']),
  python_requires='>=3.10,<3.14',
  # tf-keras X.Y asks for tensorflow X.Y, so the two always match.
  install_requires=[
    'tensorflow>=2.18,<2.22',
    'tf-keras>=2.18,<2.22',
    'numpy>=1.26,<3',
    'absl-py>=2.0,<3',
    'tqdm>=4.60,<5',
    'matplotlib>=3.8,<4',
  ],
  extras_require={
    'test': ['pytest>=8,<10'],
    'bench': ['torch>=2.4'],
    'gpu': ['tensorflow[and-cuda]>=2.18,<2.22'],
  },
)
