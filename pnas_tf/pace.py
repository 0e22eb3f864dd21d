"""How long a search still takes, by what its steps have taken so far."""

import collections
import statistics

from pnas_tf.schedule import Schedule

# Steps of a kind that the pace is taken from: the last ones, as a machine changes its pace.
REMEMBERED = 100


class Pace:
    """Seconds of weight steps alone, and of those with an architecture step behind them.

    The first step of a kind is left out, since it compiles, and the others count by their median.
    """

    def __init__(self, schedule: Schedule):
        """Nothing is known yet.

        Args:
            schedule: says of which kind each step is.
        """
        self._schedule, self._seen = schedule, {False: 0, True: 0}
        self._seconds: dict[bool, collections.deque[float]] = {
            kind: collections.deque(maxlen=REMEMBERED) for kind in self._seen}

    def note(self, step: int, seconds: float) -> None:
        """Takes down what weight step `step` took, with the architecture step that was due after it."""
        kind = self._schedule.arch_due(step)
        if self._seen[kind]:
            self._seconds[kind].append(seconds)
        self._seen[kind] += 1

    def left(self, done: int) -> float | None:
        """Seconds from weight step `done` to the end; None as long as no step but compiling ones has been seen.

        A kind not seen yet is taken to cost as much for the architecture step as for the weight step.
        """
        median = {kind: statistics.median(seconds) for kind, seconds in self._seconds.items() if seconds}
        if not median:
            return None
        alone = median[False] if False in median else median[True] / 2
        both = median[True] if True in median else 2 * alone
        arch_steps = self._schedule.arch_steps - self._schedule.arch_steps_before(done)
        return (self._schedule.steps - done - arch_steps) * alone + arch_steps * both
