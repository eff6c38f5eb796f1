"""Packaging of graph_resnet9; see BUILD.md."""

import ast
import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).resolve().parent


def version():
  """__version__, without importing the package: that sets the environment."""
  text = (ROOT / 'graph_resnet9' / '__init__.py').read_text(encoding='utf-8')
  return ast.literal_eval(
    re.search(r'^__version__ = (.+)$', text, re.M).group(1)
  )


def long_description():
  """README.md for places where the files beside it are not.

  Pictures of the checkout are left out with the caption below them; links into
  it become the names of the files, which the source distribution has.
  """
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  text = re.sub(r'!\[[^\]]*\]\((?!https?:)[^)]*\)\n(\n\*[^*]+\*\n)?', '', text)
  return re.sub(r'\[([^\]]+)\]\((?!https?:)[^)]*\)', r'\1', text)


setuptools.setup(
  name='graph_resnet9',
  version=version(),
  description='ResNet9 on CIFAR-10 in a TensorFlow 1 graph, and a doctor for '
  'the batch normalisation of any such graph',
  long_description=long_description(),
  long_description_content_type='text/markdown',
  author='The authors of graph_resnet9',
  license='Apache-2.0',
  keywords='tensorflow tensorflow1 batch-normalization resnet cifar-10 lint',
  classifiers=[
    'Development Status :: 5 - Production/Stable',
    'Environment :: Console',
    'Intended Audience :: Developers',
    'Intended Audience :: Education',
    'Intended Audience :: Science/Research',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3.10',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Topic :: Software Development :: Quality Assurance',
    'Typing :: Typed',
  ],
  packages=setuptools.find_packages(include=['graph_resnet9*']),
  package_data={'graph_resnet9': ['py.typed', 'recipes/*.flags']},
  entry_points={
    'console_scripts': ['graph_resnet9 = graph_resnet9.__main__:main']
  },
  # On 3.7 the doctor alone: where TensorFlow 1.15 is what trains.
  python_requires='>=3.7,!=3.8.*,!=3.9.*,<3.14',
  # tf-keras X.Y asks for tensorflow X.Y, so the two always match.
  install_requires=[
    name + '; python_version >= "3.10"'
    for name in (
      'tensorflow>=2.18,<2.22',
      'tf-keras>=2.18,<2.22',
      'protobuf<7',  # TensorFlow 2.20 asks for any, and fails with 7.
      'numpy>=1.26,<3',
      'absl-py>=2.0,<3',
      'tqdm>=4.60,<5',
      'matplotlib>=3.8,<4',
    )
  ]
  + [
    name + '; python_version < "3.8"'
    for name in (
      'tensorflow>=1.15,<1.16',
      'protobuf<3.21',  # TensorFlow 1.15 asks for any, and loads with these.
      'absl-py>=1.0,<3',
      'matplotlib>=3.5,<3.6',
    )
  ],
  extras_require={
    'test': ['pytest>=7,<10', 'pytest-xdist>=3,<4', 'setuptools>=68'],
    'bench': ['torch>=2.4', 'jax>=0.4.30'],
    'docs': ['ipykernel>=6', 'nbclient>=0.8', 'nbformat>=5.7'],
    'gpu': ['tensorflow[and-cuda]>=2.18,<2.22'],
  },
)
