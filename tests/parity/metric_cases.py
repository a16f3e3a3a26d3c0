"""The logits and labels that metrics here and their references are both given; needs numpy alone."""

import numpy as np

NUM_CLASSES = 5

CASES = ("mixed", "absent", "two_classes", "confident", "one_picture", "all_ignored")
"""- mixed: every picture has every class, some pixels are ignored.
- absent: class 2 is predicted and in no label, class 3 in labels and never predicted, class 4 in neither, and pictures
  have some of the others.
- two_classes: of two classes.
- confident: many probabilities are 1.
- one_picture: one alone, nothing ignored.
- all_ignored: no pixel counts."""


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Returns numbers 0..1, float64 of the shape, alike with every version of numpy."""
    bits = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(factor)
    return ((bits >> np.uint64(40)) / 2**24).reshape(shape)


def logits_and_label(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits float32[B, H, W, K] and label uint8[B, H, W], 255 where ignored."""
    pictures, classes = 1 if case == "one_picture" else 4, 2 if case == "two_classes" else NUM_CLASSES
    blocks = (classes * noise((pictures, 4, 5), 1)).astype(np.uint8)
    # The first row of blocks has each class once.
    blocks[:, 0, :classes] = np.arange(classes)
    logits = 4 * noise((pictures, 24, 30, classes), 2)
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
