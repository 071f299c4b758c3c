"""The inputs of the golden cases: weights, images and labels from one integer hash.

Nothing is stored; Rust rebuilds every value bit for bit.

    hash32(i, salt), all modulo 2^32:
        x = i * 2654435761 + salt * 40503 + 12345
        x ^= x >> 16;  x *= 0x45d9f3b;  x ^= x >> 16;  x *= 0x45d9f3b;  x ^= x >> 16
    uniform(i, salt) = (hash32(i, salt) >> 8) / 2^24                 in [0, 1), exact in float32

Parameters  The tensor at place k = 1, 2, ... of the state dict (conv1.weight is 1, conv1.bias 2, ...) has element
            i (row-major) = float32(bound * (2 * uniform(i, k) - 1)), computed in float64, with
            bound = 1 / sqrt(fan_in); a bias has the fan_in of its weight.
Labels      label(n) = (7 n + n // 5) mod 10.
Images      28x28 bytes; a class is a 7x7 pattern of 4x4-pixel cells, with noise. For image n of label c, row y,
            column x, cell q = 7 (y // 4) + x // 4:
                ink   = hash32(49 c + q, 101) mod 5 < 2              the pattern of the class
                ink  ^= hash32(49 n + q, 102) mod 8 == 0             one cell in eight inverted
                h     = hash32(784 n + 28 y + x, 103)
                ink  ^= (h >> 8) mod 32 == 0                         one pixel in 32 inverted
                pixel = 128 + (h mod 256) // 2 if ink else 0
            56% of the pixels are exactly 0, so max-pooling meets ties between equal values.
Images of any shape (the colour network of odd_cnns), i the row-major index in [batch, channel, height, width]:
                h = hash32(i, 104);  pixel = 128 + (h mod 256) // 2 if (h >> 8) mod 5 < 2 else 0
Normalised  (pixel / 255 - 0.1307) / 0.3081, every operation rounded to float32.
"""

import numpy as np
import torch


def hash32(i, salt):
    low = np.uint64(0xFFFFFFFF)
    x = (np.asarray(i, np.uint64) * np.uint64(2654435761) + np.uint64(salt * 40503 + 12345)) & low
    for _ in range(2):
        x ^= x >> np.uint64(16)
        x = (x * np.uint64(0x45D9F3B)) & low
    x ^= x >> np.uint64(16)
    return x.astype(np.int64)


def uniform(i, salt):
    return (hash32(i, salt) >> 8) / 2.0**24


def parameter(k, shape, fan_in):
    bound = 1 / np.sqrt(fan_in)
    values = bound * (2 * uniform(np.arange(np.prod(shape)), k) - 1)
    return torch.from_numpy(values.astype(np.float32)).view(shape)


def labels(n):
    n = np.asarray(n)
    return (7 * n + n // 5) % 10


def images(n):
    """Bytes [len(n), 1, 28, 28]."""
    n = np.asarray(n).reshape(-1, 1, 1)
    y, x = np.arange(28).reshape(28, 1), np.arange(28)
    cell = 7 * (y // 4) + x // 4
    h = hash32(784 * n + 28 * y + x, 103)
    ink = hash32(49 * labels(n) + cell, 101) % 5 < 2
    ink = ink ^ (hash32(49 * n + cell, 102) % 8 == 0) ^ ((h >> 8) % 32 == 0)
    return np.where(ink, 128 + h % 256 // 2, 0).astype(np.uint8)[:, None]


def images_of_shape(*shape):
    h = hash32(np.arange(np.prod(shape)), 104)
    return np.where((h >> 8) % 5 < 2, 128 + h % 256 // 2, 0).astype(np.uint8).reshape(shape)


def normalise(pixels):
    f = np.float32
    return torch.from_numpy((pixels.astype(f) / f(255) - f(0.1307)) / f(0.3081))


def batch(start, count, dtype=torch.float32):
    n = np.arange(start, start + count)
    return normalise(images(n)).to(dtype), torch.from_numpy(labels(n))
