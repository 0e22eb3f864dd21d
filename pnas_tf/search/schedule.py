"""The schedule of a search: epochs, warm-up, architecture steps, learning rates, and the time that is left."""

import collections
import dataclasses
import math
import statistics

# Number of latest steps whose seconds count: the speed of a machine changes over a search.
REMEMBERED = 100


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The plan of a search, counted in weight steps.

    A warm-up trains the weights of uniformly sampled paths, and alpha does not change. In the search that follows, an
    architecture step comes after every `arch_every` weight steps.

    Attributes:
        steps_per_epoch: Weight steps per epoch.
        warmup_epochs: Epochs of the warm-up.
        search_epochs: Epochs with architecture steps.
        arch_every: Weight steps for each architecture step.
        warmup_lr: Weight learning rate at the start of the warm-up.
        lr: Weight learning rate at the start of the search.
    """

    steps_per_epoch: int
    warmup_epochs: int
    search_epochs: int
    arch_every: int
    warmup_lr: float
    lr: float

    @property
    def epochs(self) -> int:
        """Epochs of warm-up and search together."""
        return self.warmup_epochs + self.search_epochs

    @property
    def steps(self) -> int:
        """Weight steps of warm-up and search together."""
        return self.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Weight steps of the warm-up."""
        return self.warmup_epochs * self.steps_per_epoch

    @property
    def arch_steps(self) -> int:
        """Architecture steps of the whole search."""
        return self.arch_steps_before(self.steps)

    def is_warmup(self, step: int) -> bool:
        """Whether weight step `step` belongs to the warm-up; the first step is 0."""
        return step < self.warmup_steps

    def arch_due(self, step: int) -> bool:
        """Whether an architecture step follows weight step `step`."""
        return self.arch_steps_before(step + 1) > self.arch_steps_before(step)

    def arch_steps_before(self, step: int) -> int:
        """Number of architecture steps done when weight step `step` starts."""
        return max(0, step - self.warmup_steps) // self.arch_every

    def weight_lr(self, step: int) -> float:
        """Learning rate of a weight step: one cosine in each phase, and a short linear ramp at the very start.

            lr = ramp * (end + (start - end) * (1 + cos(pi * done)) / 2)

        `start` and `end` are `warmup_lr` and `lr` in the warm-up, then `lr` and 0; `done` is the share of the phase
        that has passed, and `ramp` rises to 1 over the first 5 % of all steps, 100 at most.
        """
        if self.is_warmup(step):
            start, end, done = self.warmup_lr, self.lr, step / self.warmup_steps
        else:
            start, end, done = self.lr, 0.0, (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        ramp = min(1.0, (step + 1) / max(1, min(100, self.steps // 20)))
        return ramp * (end + (start - end) * 0.5 * (1 + math.cos(math.pi * done)))

    def squeezed(self, max_steps: int) -> "Schedule":
        """A plan of at most `max_steps` weight steps with the same proportion of warm-up and search, for a trial run.

        The plan has at least 2 epochs of 1 step, so that it has room for a warm-up and an architecture step.
        """
        if self.steps <= max_steps:
            return self
        epochs = max(2, min(self.epochs, 4, max_steps // 2), math.ceil(max_steps / self.steps_per_epoch))
        warmup = min(epochs - 1, max(min(1, self.warmup_epochs), round(epochs * self.warmup_epochs / self.epochs)))
        steps = max(1, max_steps // epochs)
        return dataclasses.replace(self, steps_per_epoch=steps, warmup_epochs=warmup, search_epochs=epochs - warmup,
                                   arch_every=min(self.arch_every, steps))


def alpha_lr(arch_steps: int, ops: int, paths: int, travel: float = 7.0) -> float:
    """Learning rate at which Adam with beta1 = 0 can move an alpha by about `travel` over a search.

        share = paths / ops                                share of the steps in which an alpha has a gradient
        move = lr / (2 * sqrt(share))                      its move in such a step
        travel = arch_steps * share * move
               = 0.5 * lr * arch_steps * sqrt(share)       the sum of its moves, if all go the same way
        lr = min(0.1, travel / (0.5 * arch_steps * sqrt(share)))

    Adam divides by the root of a mean square over all steps, including those without a gradient: hence 1 / sqrt(share).
    The factor 2 stands for heavy-tailed gradients, whose mean size is about half of that root. The authors' code uses a
    learning rate of 1e-3 for about 23,000 steps. A short search needs a larger learning rate, or alpha ends near its
    start.

    Args:
        arch_steps: Architecture steps of the whole search.
        ops: Number of ops of a choice.
        paths: Number of ops with a gradient in a step: 2, or all.
        travel: Sum of the moves of an alpha.

    Returns:
        The learning rate, at most 0.1.
    """
    share = min(1.0, paths / ops)
    return min(0.1, travel / (0.5 * max(1, arch_steps) * math.sqrt(share)))


def alpha_travel(lr: float, arch_steps: int, ops: int, paths: int) -> float:
    """The travel that a learning rate allows; the inverse of `alpha_lr`.

        travel = 0.5 * lr * arch_steps * sqrt(paths / ops)

    Args:
        lr: Learning rate of alpha.
        arch_steps: Architecture steps of the whole search.
        ops: Number of ops of a choice.
        paths: Number of ops with a gradient in a step: 2, or all.
    """
    return 0.5 * lr * arch_steps * math.sqrt(min(1.0, paths / ops))


class Pace:
    """Seconds of a step, and the time left, estimated from the steps so far.

    There are two kinds of steps: weight steps alone, and weight steps with an architecture step after them. The first
    step of each kind is left out, since it includes compilation. The median of the others counts.
    """

    def __init__(self, schedule: Schedule):
        """Starts without any steps.

        Args:
            schedule: Schedule, which determines the kind of each step.
        """
        self._schedule, self._seen = schedule, {False: 0, True: 0}
        self._seconds: dict[bool, collections.deque[float]] = {
            kind: collections.deque(maxlen=REMEMBERED) for kind in self._seen}

    def note(self, step: int, seconds: float) -> None:
        """Records the seconds of weight step `step`, including those of an architecture step after it."""
        kind = self._schedule.arch_due(step)
        if self._seen[kind]:
            self._seconds[kind].append(seconds)
        self._seen[kind] += 1

    def left(self, done: int) -> float | None:
        """Seconds from weight step `done` to the end; None until a step without compilation has been recorded.

            left = weight steps alone * median(alone) + weight steps with an architecture step * median(both)

        As long as only one of the two kinds has been recorded, an architecture step counts as much as a weight step:
        both = 2 * alone.
        """
        median = {kind: statistics.median(seconds) for kind, seconds in self._seconds.items() if seconds}
        if not median:
            return None
        alone = median[False] if False in median else median[True] / 2
        both = median[True] if True in median else 2 * alone
        arch_steps = self._schedule.arch_steps - self._schedule.arch_steps_before(done)
        return (self._schedule.steps - done - arch_steps) * alone + arch_steps * both
