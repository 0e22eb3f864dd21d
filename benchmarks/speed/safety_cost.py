"""What safety costs in a search: the check for NaN after each step, and a checkpoint.

    python -m benchmarks.speed.safety_cost --space=quickstart --out_dir=runs/safety_cost

Times both inside a search on the embedded images, and its steps for comparison. Writes safety_cost.json into --out_dir.
"""

import json
import os
import statistics
import time

from absl import flags

from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import schedule
from pnas_tf.space import blocks, spaces


def run(space: blocks.Space, out_dir: str, batch_size: int, epochs: int) -> dict[str, float]:
    """Searches for some epochs of 50 steps, with an architecture step after each weight step.

    Args:
        space: Space to search.
        out_dir: Folder of the checkpoint.
        batch_size: Images per step.
        epochs: Number of epochs. The first is left out of the figures.

    Returns:
        Medians of step_ms, of look_ms (the check after one step) and of save_ms (a checkpoint); checkpoint_bytes.
    """
    from pnas_tf import data
    from pnas_tf.cost import goal as goals_lib
    from pnas_tf.cost import prices
    from pnas_tf.search import build as search_build
    from pnas_tf.search import checkpoints, searcher, stopping
    from pnas_tf.search.config import Method
    from pnas_tf.supernet import supernet

    loaded = data.load("fashion_mnist_small", image_size=space.input_size,
                       normalisation=space.normalisation)
    space = space.fitted_to(loaded)
    plan = schedule.Schedule(50, 1, epochs - 1, 1, 0.05, 0.025)
    net = supernet.Supernet(space)
    goal = goals_lib.Goal("made_up", prices.matrix(space, lambda *_: 0.01), 0.01 * len(space.all_blocks))
    model = searcher.Searcher(net, list(search_build.updaters(Method(), net, [goal], plan)), plan)
    model.compile(searcher.alpha_optimizer(1e-3))
    times: dict[str, list[float]] = {"step_ms": [], "look_ms": [], "save_ms": []}

    class Timed(stopping.StopOnNonFinite):
        def on_train_batch_begin(self, batch, logs=None):
            self.begin = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            between = time.perf_counter()
            super().on_train_batch_end(batch, logs)
            times["step_ms"].append(1e3 * (between - self.begin))
            times["look_ms"].append(1e3 * (time.perf_counter() - between))

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            begin = time.perf_counter()
            checkpoints.save(self.model, RunFolder(out_dir))
            times["save_ms"].append(1e3 * (time.perf_counter() - begin))

    model.go_on(lambda step: searcher.alternating_batches(loaded.train, loaded.held_out, plan, batch_size, 0, step),
                [Timed()])
    medians = {name: round(statistics.median(ms[len(ms) // epochs:]), 4) for name, ms in times.items()}
    folder = RunFolder(out_dir).checkpoints
    return {**medians, "checkpoint_bytes": max(os.path.getsize(os.path.join(folder, name))
                                               for name in os.listdir(folder))}


def _define_flags() -> None:
    flags.DEFINE_string("space", "quickstart", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_string("out_dir", "runs/safety_cost", "Folder of the checkpoints and of safety_cost.json.")
    flags.DEFINE_integer("batch_size", 64, "Images per step.", 1)
    flags.DEFINE_integer("epochs", 4, "Number of epochs, each of 50 steps.", 2)


def _main() -> None:
    f = flags.FLAGS
    space = spaces.load(f.space)
    start.load_tensorflow()
    figures = run(space, f.out_dir, f.batch_size, f.epochs)
    path = os.path.join(f.out_dir, "safety_cost.json")
    files.write_text(path, json.dumps(figures, indent=1) + "\n")
    print(f"{space.name}: {figures['step_ms']:.2f} ms a step; {figures['look_ms']:.3f} ms to check it "
          f"({figures['look_ms'] / figures['step_ms']:.2%}); {figures['save_ms']:.0f} ms for a checkpoint of "
          f"{figures['checkpoint_bytes'] / 2**20:.1f} MiB.\nResults: {path}")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
