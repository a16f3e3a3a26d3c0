"""The logits and labels with which metrics and their references are compared; needs only numpy."""

import numpy as np

NUM_CLASSES = 5

CASES = ("mixed", "absent", "two_classes", "confident", "one_picture", "all_ignored")
"""- mixed: all images contain all classes, and some pixels are ignored.
- absent: class 2 is predicted but absent from the labels, class 3 is in the labels but never predicted, class 4 is in
  neither, and images contain only some of the other classes.
- two_classes: two classes.
- confident: many probabilities are 1.
- one_picture: a single image without ignored pixels.
- all_ignored: no valid pixels."""


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Returns pseudorandom numbers in 0..1, float64, that do not depend on the version of numpy."""
    bits = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(factor)
    return ((bits >> np.uint64(40)) / 2**24).reshape(shape)


def logits_and_label(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits, float32[B, H, W, K], and labels, uint8[B, H, W], with 255 at ignored pixels."""
    images, classes = 1 if case == "one_picture" else 4, 2 if case == "two_classes" else NUM_CLASSES
    blocks = (classes * noise((images, 4, 5), 1)).astype(np.uint8)
    # The first row of blocks contains each class once.
    blocks[:, 0, :classes] = np.arange(classes)
    logits = 4 * noise((images, 24, 30, classes), 2)
    if case == "absent":
        blocks[blocks == 2], blocks[blocks == 4] = 0, 3
        blocks[:2][blocks[:2] == 1] = 0
        logits[..., 3:] = -9
    label = blocks.repeat(6, 1).repeat(6, 2)
    logits += 2 * (label[..., None] == np.arange(classes)) * (np.arange(classes) != 3 if case == "absent" else 1)
    if case == "confident":
        logits *= 20
    if case != "one_picture":
        label[noise(label.shape, 3) < 0.2] = 255
    if case == "all_ignored":
        label[:] = 255
    return logits.astype(np.float32), label
