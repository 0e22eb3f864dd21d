"""When a search does what: epochs, warm-up, architecture steps and learning rates, and how much time is left."""

import collections
import dataclasses
import math
import statistics


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The plan of a search, counted in weight steps.

    Attributes:
        steps_per_epoch: weight steps an epoch.
        warmup_epochs: epochs of uniformly sampled paths without architecture steps, at the start.
        search_epochs: epochs with architecture steps.
        arch_every: weight steps for each architecture step.
        warmup_lr: weight learning rate at the start; falls to `lr` over the warm-up, as a cosine.
        lr: weight learning rate at the start of the search; falls to 0, as a cosine.
    """

    steps_per_epoch: int
    warmup_epochs: int
    search_epochs: int
    arch_every: int
    warmup_lr: float
    lr: float

    @property
    def epochs(self) -> int:
        """Warm-up and search."""
        return self.warmup_epochs + self.search_epochs

    @property
    def steps(self) -> int:
        """Weight steps in all."""
        return self.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Weight steps before the search."""
        return self.warmup_epochs * self.steps_per_epoch

    @property
    def arch_steps(self) -> int:
        """Architecture steps in all."""
        return self.arch_steps_before(self.steps)

    def is_warmup(self, step: int) -> bool:
        """Whether weight step `step`, from 0, belongs to the warm-up."""
        return step < self.warmup_steps

    def arch_due(self, step: int) -> bool:
        """Whether an architecture step follows weight step `step`."""
        return self.arch_steps_before(step + 1) > self.arch_steps_before(step)

    def arch_steps_before(self, step: int) -> int:
        """Architecture steps done when weight step `step` starts."""
        return max(0, step - self.warmup_steps) // self.arch_every

    def weight_lr(self, step: int) -> float:
        """Weight learning rate of a weight step: a short linear ramp, then two cosines."""
        if self.is_warmup(step):
            start, end, done = self.warmup_lr, self.lr, step / self.warmup_steps
        else:
            start, end, done = self.lr, 0.0, (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        ramp = min(1.0, (step + 1) / max(1, min(100, self.steps // 20)))
        return ramp * (end + (start - end) * 0.5 * (1 + math.cos(math.pi * done)))

    def squeezed(self, max_steps: int) -> "Schedule":
        """The same plan in at most `max_steps` weight steps, warm-up and search in proportion: a trial run."""
        if self.steps <= max_steps:
            return self
        epochs = max(2, min(self.epochs, 4, max_steps // 2), math.ceil(max_steps / self.steps_per_epoch))
        warmup = min(epochs - 1, max(min(1, self.warmup_epochs), round(epochs * self.warmup_epochs / self.epochs)))
        steps = max(1, max_steps // epochs)
        return dataclasses.replace(self, steps_per_epoch=steps, warmup_epochs=warmup, search_epochs=epochs - warmup,
                                   arch_every=min(self.arch_every, steps))


def alpha_lr(arch_steps: int, ops: int, paths: int, travel: float = 7.0) -> float:
    """Learning rate at which Adam with beta1 = 0 can move an alpha by about `travel` over a search.

    An alpha that is in a share f of the steps moves by about lr / (2 sqrt(f)) each time (heavy-tailed gradients), so
    by 0.5 * lr * steps * sqrt(f) in all. The paper's 1e-3 goes with some 23,000 steps; a short search
    needs more or ends where it began.

    Args:
        arch_steps: architecture steps of the whole search.
        ops: of a choice.
        paths: ops updated in a step: 2, or all.
        travel: wanted sum of an alpha's moves.

    Returns:
        The learning rate, at most 0.1.
    """
    share = min(1.0, paths / ops)
    return min(0.1, travel / (0.5 * max(1, arch_steps) * math.sqrt(share)))


def alpha_travel(lr: float, arch_steps: int, ops: int, paths: int) -> float:
    """The travel that a learning rate allows: inverse of `alpha_lr`."""
    return 0.5 * lr * arch_steps * math.sqrt(min(1.0, paths / ops))


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
