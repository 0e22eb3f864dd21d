"""How much of a search epoch is spent outside the steps: on the input pipeline, on Python and on logging.

    python -m benchmarks.speed.epoch_share --images=array
    python -m benchmarks.speed.epoch_share --images=jpeg
    python -m benchmarks.speed.epoch_share --images=phone

Runs epochs as `pnas_tf.search` does, on pixels in memory or on JPEG files. The files are made for the benchmark: smooth
noise of 500x375 pixels or, as of a phone, 4032x3024, decoded by the same cores that run the steps. After each epoch
follows the same number of bare steps: the same compiled functions and paths, on one batch in memory. The benchmark
compares CPU and wall time.
"""

import dataclasses
import json
import os
import tempfile
import time

import numpy as np
from absl import flags

from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import blocks, spaces

IMAGENET_IMAGES = 1_281_167
CLASSES = 4
# Width, height and number of the images.
FILES = {"jpeg": (500, 375, 256), "phone": (4032, 3024, 32)}
ARRAY_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Share:
    """Figures of one step and of the end of an epoch.

    Attributes:
        step_cpu_s: CPU seconds of a bare step, architecture steps included in proportion.
        step_wall_s: Wall seconds of a bare step.
        more_cpu: CPU time of a step in an epoch / CPU time of a bare step - 1.
        more_wall: Wall time of a step in an epoch / wall time of a bare step - 1.
        end_s: Wall seconds of logging at the end of an epoch.
        end_share: Share of `end_s` in the steps of an ImageNet epoch.
    """

    step_cpu_s: float
    step_wall_s: float
    more_cpu: float
    more_wall: float
    end_s: float
    end_share: float


def run(*, search_space: blocks.Space, batch_size: int, steps: int, rounds: int, arch_every: int,
        images: str) -> Share:
    """Measures epochs and bare steps in turns.

    Args:
        search_space: Space to search, with the input size to use.
        batch_size: Images per step.
        steps: Weight steps of an epoch.
        rounds: Number of measured epochs, each followed by bare steps.
        arch_every: Weight steps per architecture step.
        images: One of `FILES`, or `array` for pixels in memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        if images in FILES:
            spec = f"folder:{os.path.join(folder, 'photos')}"
            _make_photos(os.path.join(folder, "photos"), *FILES[images])
        else:
            spec = f"npz:{os.path.join(folder, 'pixels.npz')}"
            _make_array(os.path.join(folder, "pixels.npz"), search_space.input_size)
        return _run(search_space, batch_size, steps, rounds, arch_every, spec, folder)


def _run(search_space, batch_size, steps, rounds, arch_every, spec, folder):
    import tensorflow as tf

    from pnas_tf import data
    from pnas_tf.cost import goal as goals_lib
    from pnas_tf.cost import prices
    from pnas_tf.derive import deliver
    from pnas_tf.search import arch_updaters, objective, schedule, searcher
    from pnas_tf.search import log as search_log
    from pnas_tf.supernet import path_scorer, supernet

    supernet.set_graph_optimiser(False)
    loaded = data.load(spec, image_size=search_space.input_size, normalisation=search_space.normalisation)
    search_space = search_space.for_data(search_space.input_size, 3, loaded.num_classes)
    net = supernet.Supernet(search_space)
    ms = prices.matrix(search_space, lambda name, key: 1.0)
    plan = schedule.Schedule(steps, 0, rounds + 1, arch_every, 0.01, 0.01)
    updater = arch_updaters.GradientUpdater(net, ms, objective.latency_loss("lagrangian", 10.0, plan.arch_steps))
    model = searcher.Searcher(net, updater, plan)
    model.compile(searcher.alpha_optimizer(1e-3))
    scorer = path_scorer.PathScorer(net, loaded.held_out.batches(batch_size).take(10))
    goal = goals_lib.Goal("made_up", ms, 1e6)
    run_folder = RunFolder(folder)
    log = search_log.SearchLog(run_folder, [deliver.Result(goal, run_folder)], scorer)
    batches = searcher.alternating_batches(loaded.train, loaded.held_out, plan, batch_size, 0)
    (images, labels), _ = next(iter(batches))

    def bare():
        done = int(model.step.value.numpy())
        for step in range(done - steps, done):  # The same paths as in the epoch before.
            logs = model._weight_step_of_all(images, labels, model._path_seed(2 * step), tf.constant(0),
                                             tf.constant(0.01))
            if plan.arch_due(step):
                logs = updater.update(images, labels, model._path_seed(2 * step + 1), model.optimizer)
        next(iter(logs.values())).numpy()

    clock = _clock_class()
    before, after = clock(), clock(bare)
    model.fit(batches, epochs=rounds + 1, steps_per_epoch=steps, verbose=0, shuffle=False,
              callbacks=[before, log, after])
    # The first epoch compiles.
    begins, ends, dones = (np.array(times[1:]) for times in (before.begins, before.ends, after.ends))
    cpu, wall = np.median(ends - begins, axis=0)
    bare_cpu, bare_wall = np.median(np.array(after.works[1:]), axis=0)
    end_s = np.median(dones - ends, axis=0)[1]
    imagenet_steps = IMAGENET_IMAGES // batch_size
    return Share(bare_cpu / steps, bare_wall / steps, cpu / bare_cpu - 1, wall / bare_wall - 1, end_s,
                 end_s / (imagenet_steps * bare_wall / steps))


def _times():
    return time.process_time(), time.perf_counter()


def _clock_class():
    import keras

    class Clock(keras.callbacks.Callback):
        """Notes CPU and wall seconds at the start and at the end of each epoch; then does some work and times it."""

        def __init__(self, work=None):
            super().__init__()
            self.begins, self.ends, self.works, self._work = [], [], [], work

        def on_epoch_begin(self, epoch, logs=None):
            self.begins.append(_times())

        def on_epoch_end(self, epoch, logs=None):
            self.ends.append(_times())
            if self._work:
                self._work()
                self.works.append(np.subtract(_times(), self.ends[-1]))

    return Clock


def _make_array(path, side):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (ARRAY_IMAGES, side, side, 3), np.uint8)
    labels = np.arange(ARRAY_IMAGES) % CLASSES
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[:16], y_test=labels[:16])


def _make_photos(folder, width, height, count):
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = tf.image.resize(rng.uniform(0, 255, (24, 32, 3)), (height, width), "bicubic").numpy()
        pixels += rng.normal(0, 6, pixels.shape)
        path = os.path.join(folder, f"class{number % CLASSES}", f"{number}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        keras.utils.save_img(path, np.clip(pixels, 0, 255), scale=False)


def _define_flags() -> None:
    flags.DEFINE_string("space", "proxyless_imagenet", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_integer("image_size", 112, "Height and width of the images.", 32)
    flags.DEFINE_integer("batch_size", 16, "Images per step.", 1)
    flags.DEFINE_integer("steps", 20, "Weight steps of an epoch.", 1)
    flags.DEFINE_integer("rounds", 3, "Number of measured epochs, each followed by bare steps.", 1)
    flags.DEFINE_integer("arch_every", 5, "Weight steps per architecture step.", 1)
    flags.DEFINE_enum("images", "jpeg", [*FILES, "array"],
                      "Whether images are JPEG files, of usual size or as of a phone, or pixels in memory.")
    flags.DEFINE_string("json", None, "JSON file for the result.")


def _main() -> None:
    f = flags.FLAGS
    search_space = dataclasses.replace(spaces.load(f.space), input_size=f.image_size)
    start.load_tensorflow()
    share = run(search_space=search_space, batch_size=f.batch_size, steps=f.steps, rounds=f.rounds,
                arch_every=f.arch_every, images=f.images)
    print(f"A step: {share.step_cpu_s:.3f} s of CPU, {share.step_wall_s:.3f} s. In an epoch, input pipeline and Python "
          f"included: {share.more_cpu:+.1%} CPU time, {share.more_wall:+.1%} wall time.\n"
          f"Logging at the end of an epoch: {share.end_s:.2f} s, {share.end_share:.2%} of an epoch of ImageNet at this "
          "batch size.")
    if f.json:
        files.write_text(f.json, json.dumps(dataclasses.asdict(share), indent=1) + "\n")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
