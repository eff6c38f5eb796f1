"""The fixed filters that whiten the patches of images. NumPy only."""

import numpy as np

EPSILON = 1e-2  # davidcpage/cifar10-fast, new_dawn.py, whitening_block.
IMAGES = 10000  # As many training images make the filters there.


def filters(images):
  """Filters under which 3x3 patches have uncorrelated outputs of variance ~1.

  Column i is v_i / sqrt(e_i + 1e-2) for the eigenvectors v_i and eigenvalues
  e_i, largest first, of the uncentred covariance X^T X / (n - 1) of the n
  patches that lie wholly inside the images. The sign of v_i is chosen so that
  its largest element is positive: a decomposition leaves it open.

  Args:
    images: iterable of float32 arrays [count, height, width, 3], normalised;
      an image takes 0.1 MB at a time.
  Returns:
    float32 [3, 3, 3, 27], the kernel of a convolution.
  Source: davidcpage/cifar10-fast, new_dawn.py: cov, patches, eigens.
  """
  total, count = np.zeros([27, 27]), 0
  for chunk in images:
    batch, height, width, _ = chunk.shape
    patches = np.concatenate(
      [
        chunk[:, row : row + height - 2, column : column + width - 2]
        for row in range(3)
        for column in range(3)
      ],
      -1,
    ).reshape(batch, -1, 27)
    # einsum goes without BLAS: beside other threads OpenBLAS was seen to take
    # minutes for this. A sum an image, to lose nothing in float32.
    products = np.einsum('bni,bnj->bij', patches, patches)
    total += products.sum(0, dtype=np.float64)
    count += batch * patches.shape[1]
  values, vectors = np.linalg.eigh(total / (count - 1))
  values, vectors = values[::-1], vectors[:, ::-1]
  vectors = vectors * np.sign(
    np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
  )
  return (
    (vectors / np.sqrt(values + EPSILON))
    .reshape(3, 3, 3, 27)
    .astype(np.float32)
  )
