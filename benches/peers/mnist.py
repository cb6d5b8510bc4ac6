"""MNIST from its gzipped IDX files."""

import gzip

IMAGE_BYTES = 784
IMAGE_HEADER_BYTES, LABEL_HEADER_BYTES = 16, 8


def read(folder, split):
    """The images, 784 bytes each, and the labels, one byte each, of `train` or `t10k`."""
    images = gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    return images[IMAGE_HEADER_BYTES:], labels[LABEL_HEADER_BYTES:]
