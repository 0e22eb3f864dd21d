"""Shares models among several phones: each phone takes the next batch when its last batch is finished."""

import collections
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

from latency.phones.adb import DeviceError
from latency.phones.worker import Worker, say
from pnas_tf.errors import InputError

# Number of models that a phone takes at a time. Their times count only after the anchor network has been timed again.
BATCH = 8
# How often in a row a phone may fail before it is left out.
PHONE_TRIES = 3


def measure(workers: Sequence[Worker], models: Mapping[Any, Callable[[], bytes]], anchor: bytes,
            stopped: threading.Event, max_drift: float) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Times models on several phones of one kind.

    Args:
        workers: One worker for each phone.
        models: Functions that make the bytes of a `.tflite`, by name of the model.
        anchor: Bytes of the anchor network's `.tflite`.
        stopped: Event that is set when this generator ends, for any reason, so that the workers end too.
        max_drift: Largest relative difference between phones in the time of the anchor network.

    Yields:
        (name, row) for each model of a batch, when the batch is finished.

    Raises:
        InputError: At the end, if a model could not be timed; earlier, if no phone is left.
    """
    with futures.ThreadPoolExecutor(len(workers)) as pool:
        try:
            queue = _Queue(pool, workers, models, anchor, max_drift)
            while queue.waiting or any(batch for _, batch in queue.running.values()):
                queue.hand_out()
                for future in futures.wait(queue.running, return_when=futures.FIRST_COMPLETED).done:
                    yield from queue.collect(future).items()
        finally:
            stopped.set()
    if queue.failed:
        name, reason = next(iter(queue.failed.items()))
        raise InputError(f"{len(queue.failed)} of {len(models)} models could not be timed and have no row; all others "
                         f"are done. {name}: {reason}")


class _Queue:
    """Batches that wait, and the phones that work on other batches.

    Models are converted and messages printed in the thread of the caller: a conversion silences everything else that
    the process prints.

    Attributes:
        waiting: Names of the models of each batch that no phone has taken.
        running: Worker and batch by future; the batch is None while a phone recovers.
        failed: Reasons by name of the models that could not be timed.
    """

    def __init__(self, pool, workers, models, anchor, max_drift):
        self._pool, self._models, self._anchor = pool, models, anchor
        names = list(models)
        random.Random(0).shuffle(names)  # so that a slow change of the phone affects all parts of a network
        size = max(1, min(BATCH, -(-len(names) // len(workers))))
        self.waiting = collections.deque(names[start:start + size] for start in range(0, len(names), size))
        self.running: dict[futures.Future, tuple[Worker, list | None]] = {}
        self.failed: dict[Any, str] = {}
        self._timed, self._problems, self._strikes = 0, [], collections.Counter()
        self._start_ms = self._start(workers, max_drift)
        self._idle = list(self._start_ms)

    def _start(self, workers, max_drift):
        """Milliseconds of the anchor network on each phone that is about as fast as the fastest, by its worker."""
        starts, times_ms = {worker: self._pool.submit(worker.start, self._anchor) for worker in workers}, {}
        for worker, start in starts.items():
            try:
                times_ms[worker] = start.result()
            except DeviceError as error:
                self._leave_out(str(error))
        fastest_ms = min(times_ms.values(), default=0.0)
        for worker, anchor_ms in times_ms.items():
            if anchor_ms > fastest_ms * (1 + max_drift):
                self._leave_out(f"{worker.phone.serial} takes {anchor_ms / fastest_ms - 1:.0%} longer for the anchor "
                                "network than the fastest phone, so their rows do not belong in one table")
        return {worker: ms for worker, ms in times_ms.items() if ms <= fastest_ms * (1 + max_drift)}

    def hand_out(self):
        """Gives a batch to each idle phone.

        Raises:
            InputError: If no phone is left.
        """
        while self.waiting and self._idle:
            worker, batch = self._idle.pop(), self.waiting.popleft()
            contents = {name: self._models[name]() for name in batch}
            future = self._pool.submit(worker.batch, contents, self._anchor, self._start_ms[worker])
            self.running[future] = worker, batch
        if not self.running:
            raise InputError(f"No phone is left: {'; '.join(self._problems)}. {self._timed} of {len(self._models)} "
                             "models are done. Run the same command again to continue.")

    def collect(self, future: futures.Future) -> dict[Any, dict[str, Any]]:
        """Rows of a batch that has ended; a batch that failed goes back to the queue.

        Args:
            future: Key of `running` that is done.
        """
        worker, batch = self.running.pop(future)
        try:
            result = future.result()
        except DeviceError as error:
            if batch:
                self.waiting.appendleft(batch)
            self._strikes[worker] += 1
            if batch is None or self._strikes[worker] >= PHONE_TRIES:
                self._leave_out(str(error))
            else:
                say(f"{error}. Waiting for the phone; its models go back to the queue.")
                future = self._pool.submit(worker.recover, self._anchor, self._start_ms[worker])
                self.running[future] = worker, None
            return {}
        self._idle.append(worker)
        if batch is None:
            say(f"{worker.phone.serial} is back.")
            return {}
        self._strikes[worker] = 0
        self.failed.update(result.failed)
        self._timed += len(result.rows)
        return result.rows

    def _leave_out(self, problem):
        self._problems.append(problem)
        say(f"{problem}. The measurement continues without this phone.")
