"""How long each step takes, by a rule: seconds to start and compile, and seconds for each picture and epoch.

The rule was fitted to the folder `stamps` of benchmarks.quality.photo_folders (514 pictures, 96 pixels) on 2 cores of a
virtual AMD EPYC, 2026-11-28; what a picture adds, to it and to `clipart` (1,289) a day before. Another such machine
took half of these seconds; the training, which has changed since, was fitted to its share of them there. The work on a
picture grows with its pixels, and shrinks with the number of cores. A run compares the rule with the real times, and
corrects what it says about later steps.
"""

from collections.abc import Sequence

from pnas_tf import machine
from pnas_tf.search.config import SearchConfig
from pnas_tf.space.blocks import Space
from pnas_tf.train.recipe import HINTED_EPOCHS, KEPT_EPOCHS, batch_size_for, epochs_for, kept_steps

# Height and width of the pictures, and number of cores, of the machine that the rule was fitted on.
SIDE, CORES = 96, 2
# Seconds to start a command, which loads TensorFlow.
START = 8.0
# Table: seconds for each op to convert it, and to time it at SIDE, on one core.
CONVERT, TIME = 0.37, 0.11
# Search and training: seconds to compile and to choose, and for each picture and epoch at SIDE.
TEACH, TEACH_PICTURE = 40.0, 0.0105
SEARCH, SEARCH_PICTURE = 61.0, 0.0070
# A training with a teacher: for each picture that the teacher is asked about; and for each picture and epoch of a
# network as large as the whole.
TRAIN, TRAIN_PICTURE, TRAIN_WHOLE = 27.0, 0.0055, 0.0103
EXPORT, EXPORT_PICTURE, BUNDLE, REPORT = 12.0, 0.02, 10.0, 2.0


def of_table(space: Space, sides: Sequence[int]) -> float:
    """Seconds to time the ops of a space at several sizes of the pictures."""
    ops = len({key for _, key in space.op_keys()})
    return START + sum(ops * (CONVERT + TIME * _pixels(side)) for side in sides)


def of_search(space: Space, pictures: int, sides: tuple[int, int], max_steps: int = 0) -> float:
    """Seconds of a search from pretrained weights, and of the training of its teacher.

    Args:
        space: Space to search.
        pictures: Number of pictures to train on.
        sides: Height and width of the pictures of the teacher, and of the search.
        max_steps: Limit on steps, for a trial run; 0 for none.
    """
    lengths = SearchConfig().lengths(space, pictures)
    taught, searched = epochs_for(pictures, from_scratch=False), lengths.warmup_epochs + lengths.search_epochs
    seen = searched * pictures
    if max_steps:
        taught, seen = 1, min(seen, max_steps * lengths.batch_size)
    return (START + TEACH + TEACH_PICTURE * _work(taught * pictures, sides[0])
            + SEARCH + SEARCH_PICTURE * _work(seen, sides[1]))


def of_training(space: Space, pictures: int, side: int, share: float, max_steps: int = 0) -> float:
    """Seconds of the training of a network with a teacher.

    Args:
        space: Space of the network.
        pictures: Number of pictures to train on.
        side: Height and width of the pictures.
        share: Milliseconds of the network as a share of those of the whole pretrained network.
        max_steps: Limit on steps, for a trial run; 0 for none.
    """
    epochs, batch = epochs_for(pictures, from_scratch=False, taught=HINTED_EPOCHS), batch_size_for(pictures)
    kept = kept_steps(3 * side ** 2, space.all_blocks[-2].filters, batch, -(-pictures // batch))
    seen, asked = epochs * pictures, (KEPT_EPOCHS if kept else epochs) * pictures
    if max_steps:
        seen = min(seen, max_steps * SearchConfig().lengths(space, pictures).batch_size)
    return START + TRAIN + TRAIN_PICTURE * _work(min(seen, asked), side) + TRAIN_WHOLE * share * _work(seen, side)


def of_export(pictures: int, side: int) -> float:
    """Seconds to convert, check and time a network in three modes.

    Args:
        pictures: Number of pictures to check the files on.
        side: Height and width of the pictures.
    """
    return START + EXPORT + EXPORT_PICTURE * min(2000, pictures) * _pixels(side)


def of_bundle() -> float:
    """Seconds to pack the files."""
    return START + BUNDLE


def of_report() -> float:
    """Seconds to write the report."""
    return REPORT


def _pixels(side: int) -> float:
    """Pixels of a picture of a size, as a multiple of those at SIDE."""
    return (side / SIDE) ** 2


def _work(pictures: float, side: int) -> float:
    """Pictures of a size, counted as pictures of SIDE on CORES."""
    return pictures * _pixels(side) * CORES / machine.cores()
