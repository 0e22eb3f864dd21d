"""Several phones work off one queue of models."""

import collections
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

from latency.phones.adb import DeviceError
from latency.phones.worker import Worker, say
from pnas_tf.errors import InputError

# Models that a phone takes at a time: they count when the anchor network has been timed after them.
BATCH = 8
# How often a phone may fail without a batch done in between.
PHONE_TRIES = 3


def measure(workers: Sequence[Worker], models: Mapping[Any, Callable[[], bytes]], anchor: bytes,
            stopped: threading.Event, max_drift: float) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Times models on several phones of one kind.

    Args:
        workers: a phone each.
        models: makes the contents of a `.tflite`, by name of the model.
        anchor: contents of the anchor network's.
        stopped: is set when this ends, however it does, so that workers end, too.
        max_drift: share by which phones may differ in the anchor network.

    Yields:
        (name, row) when a batch is done.

    Raises:
        InputError: at the end, if a model could not be timed; or when no phone is left.
    """
    with futures.ThreadPoolExecutor(len(workers)) as pool:
        try:
            queue = _Queue(pool, workers, models, anchor, max_drift)
            while queue.todo or queue.running:
                queue.hand_out()
                for future in futures.wait(queue.running, return_when=futures.FIRST_COMPLETED).done:
                    yield from queue.taken_back(future).items()
        finally:
            stopped.set()
    if queue.failed:
        name, reason = next(iter(queue.failed.items()))
        raise InputError(f"{len(queue.failed)} of {len(models)} models could not be timed and have no row, the others "
                         f"are done. {name}: {reason}")


class _Queue:
    """What is to be done, and who does what. Models are made and messages told in one thread: while a model is
    converted, nothing else can be printed."""

    def __init__(self, pool, workers, models, anchor, max_drift):
        self._pool, self._models, self._anchor = pool, models, anchor
        names = list(models)
        random.Random(0).shuffle(names)  # so that a slow change does not fall on one part of the network
        size = max(1, min(BATCH, -(-len(names) // len(workers))))
        self.todo = collections.deque(names[start:start + size] for start in range(0, len(names), size))
        self.running: dict[futures.Future, tuple[Worker, list | None]] = {}
        self.failed: dict[Any, str] = {}
        self._timed, self._problems, self._strikes = 0, [], collections.Counter()
        self._reference_ms, self._idle = self._started(workers, max_drift)

    def _started(self, workers, max_drift):
        """What the anchor network takes on the fastest phone, and the workers that keep up with it."""
        starts, times_ms = {worker: self._pool.submit(worker.start, self._anchor) for worker in workers}, {}
        for worker, start in starts.items():
            try:
                times_ms[worker] = start.result()
            except DeviceError as error:
                self._drop(str(error))
        fastest_ms = min(times_ms.values(), default=0.0)
        for worker, anchor_ms in times_ms.items():
            if anchor_ms > fastest_ms * (1 + max_drift):
                self._drop(f"{worker.phone.serial} takes {anchor_ms / fastest_ms - 1:.0%} longer for the anchor "
                           "network than the fastest phone: rows of both would not belong in one table")
        return fastest_ms, [worker for worker, ms in times_ms.items() if ms <= fastest_ms * (1 + max_drift)]

    def hand_out(self):
        """Gives work to phones that have none.

        Raises:
            InputError: if no phone is left to do it.
        """
        while self.todo and self._idle:
            worker, batch = self._idle.pop(), self.todo.popleft()
            contents = {name: self._models[name]() for name in batch}
            self.running[self._pool.submit(worker.batch, contents, self._anchor, self._reference_ms)] = worker, batch
        if not self.running:
            raise InputError(f"No phone is left: {'; '.join(self._problems)}. {self._timed} of {len(self._models)} "
                             "models are done: run the same command again to go on.")

    def taken_back(self, future: futures.Future) -> dict[Any, dict[str, Any]]:
        """Rows of a worker that has ended what it was given; what it did not do goes back."""
        worker, batch = self.running.pop(future)
        try:
            done = future.result()
        except DeviceError as error:
            if batch:
                self.todo.appendleft(batch)
            self._strikes[worker] += 1
            if batch is None or self._strikes[worker] >= PHONE_TRIES:
                self._drop(str(error))
            else:
                say(f"{error}. Waiting for it; its work goes back to the queue.")
                self.running[self._pool.submit(worker.recover, self._anchor, self._reference_ms)] = worker, None
            return {}
        self._idle.append(worker)
        if batch is None:
            say(f"{worker.phone.serial} is back.")
            return {}
        self._strikes[worker] = 0
        self.failed.update(done.failed)
        self._timed += len(done.rows)
        return done.rows

    def _drop(self, problem):
        self._problems.append(problem)
        say(f"{problem}. The work goes on without it.")
