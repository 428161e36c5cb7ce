"""Power spectra of images.

Frequencies are in cycles a pixel, up to 1/2. The power of an image is normalised so that its mean
over all frequencies is the mean square of the image (Parseval), weighted by the window: noise of
variance v has v everywhere, whatever the size.
"""

import numpy as np


def periodogram(image: np.ndarray) -> np.ndarray:
    """|FFT(window (image - mean))|^2 / sum(window^2), image [h, w, C] -> [h, w], its mean over C.

    The window is Hann's on both axes, as the edges of an image do not meet; the mean is weighted by
    it, so that the power at frequency 0 is 0. Frequencies are in the order of np.fft.fftfreq.
    """
    rows, columns = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in image.shape[:2])
    window = (rows[:, None] * columns[None, :])[..., None]
    mean = (window * image).sum(axis=(0, 1)) / window.sum()
    transform = np.fft.fft2(window * (image - mean), axes=(0, 1))
    return (np.abs(transform) ** 2).mean(axis=-1) / (window**2).sum()


def radial_mean(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies [K] and the mean of power [h, w] in the ring around each (azimuthal mean).

    The shorter side has n pixels: rings are 1/n wide, around 0, 1/n, 2/n, ..., at most 1/2. The
    corners beyond are left out.
    """
    fy, fx = (np.fft.fftfreq(n) for n in power.shape)
    shorter = min(power.shape)
    ring = np.rint(np.hypot(fy[:, None], fx[None, :]) * shorter).astype(int).ravel()
    total = np.bincount(ring, power.ravel()) / np.bincount(ring)
    count = shorter // 2 + 1
    return np.arange(count) / shorter, total[:count]


def spectrum(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies [K] and the radially averaged power of images [N, h, w, C]: [N, K].

    Means over images are to be taken before decibels().
    """
    frequencies, powers = zip(*(radial_mean(periodogram(image)) for image in images), strict=True)
    return frequencies[0], np.stack(powers)


def decibels(ratio: np.ndarray | float) -> np.ndarray:
    """10 log10(ratio); -inf at 0."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(ratio)
