"""A study: a folder of searches and trainings, each a command of the project that is not run again once it ended."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence

from absl import flags

from benchmarks import steps
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch


class Study:
    """Where its files are, and how its commands are run."""

    def __init__(self, out_dir: str, data: Mapping[str, str], workers: int, launcher: Sequence[str]):
        """
        Args:
            out_dir: folder of everything.
            data: flags that name the data set, by name.
            workers: processes at a time, of one core each.
            launcher: command to put before each process, such as nice.
        """
        self.out_dir, self._workers, self._launcher = out_dir, workers, list(launcher)
        self.data_flags = [f"--{name}={value}" for name, value in data.items()]

    def path(self, *names: str) -> str:
        """A file of the study."""
        return os.path.join(self.out_dir, *names)

    def run(self, module: str, arguments: Sequence[str], log: str, environment: Mapping[str, str] | None = None
            ) -> None:
        """Runs one command; what it prints goes to `log`."""
        steps.command(module, arguments, self.path(log), launcher=self._launcher, environment=environment)

    def run_all(self, module: str, jobs: Mapping[str, Sequence[str]], ended: Callable[[str], bool]) -> None:
        """Runs the commands that have not ended, several at a time.

        Args:
            module: of all.
            jobs: arguments by folder, relative to the study's; the folder becomes --run_dir.
            ended: whether the command of a folder has ended.
        """
        left = {name: more for name, more in jobs.items() if not ended(name)}
        print(f"{len(jobs) - len(left)} of {len(jobs)} are done.", flush=True)
        calls = [functools.partial(self.run, module, [*more, f"--run_dir={self.path(name)}"],
                                   os.path.join(name, "log"), steps.ONE_CORE) for name, more in left.items()]
        for _ in steps.in_parallel(calls, self._workers):
            pass

    def search_ended(self, *names: str) -> bool:
        """Whether a search has left its network in a folder of the study."""
        return os.path.exists(self.path(*names, "inherited.weights.h5")) and \
            "params" in arch_lib.load(self.path(*names, "arch.json")).costs

    def train_all(self, archs: Mapping[str, Arch], recipe: Sequence[str]) -> None:
        """Trains networks from scratch, all by the same recipe.

        Args:
            archs: by name; the number behind the last `_` is the seed.
            recipe: flags of pnas_tf.train.
        """
        jobs = {}
        for name, arch in archs.items():
            folder = self.training(name, arch)
            arch.save(self.path(folder, "arch.json"))
            jobs[folder] = [*self.data_flags, *recipe, f"--seed={name.rsplit('_', 1)[1]}"]
        self.run_all("pnas_tf.train", jobs, lambda folder: os.path.exists(self.path(folder, "train.json")))

    def training(self, name: str, arch: Arch) -> str:
        """Where a network is trained: the same folder for all that are the same network with the same seed."""
        return os.path.join("trained", f"{arch.fingerprint()}_{name.rsplit('_', 1)[1]}")


def parts(name: str) -> tuple[str, str, int]:
    """Kind, target and number of a network or search, by its name; the target is empty where the name has none."""
    kind, *target, number = name.split("_")
    return kind, "_".join(target), int(number)


def define_flags(stages: Sequence[str]) -> None:
    """Flags of every study."""
    flags.DEFINE_string("out_dir", None, "Folder of everything.", required=True)
    flags.DEFINE_integer("workers", 2, "Processes at a time, of one core each.", 1)
    flags.DEFINE_string("launcher", "", "Command to put before each process, such as nice.")
    flags.DEFINE_list("stages", list(stages), "Which to run.")


def check_stages(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raises InputError if --stages names what there is not."""
    if unknown := set(wanted) - set(known):
        raise InputError(f"--stages are of {', '.join(known)}; got {', '.join(sorted(unknown))}.")


def run_stages(calls: Mapping[str, Callable[[], None]], wanted: Sequence[str]) -> None:
    """Runs stages in the order of `calls`."""
    for stage, call in calls.items():
        if stage in wanted:
            print(f"Stage {stage}.", flush=True)
            call()
