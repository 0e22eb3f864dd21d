"""A study: a folder of searches and trainings, each of them a command of the project that runs until it ends once."""

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import steps
from pnas_tf import files
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch

# File of a search's or training's folder with the time that the whole command took.
USED = "used.json"


class Study:
    """The files of a study, and the way its commands are run."""

    def __init__(self, out_dir: str, data: Mapping[str, str], workers: int, launcher: Sequence[str]):
        """
        Args:
            out_dir: Folder of the study.
            data: Flags that name the data set, value by name.
            workers: Number of processes at a time, each on one core.
            launcher: Command that goes before each process, such as nice.
        """
        self.out_dir, self._workers, self._launcher = out_dir, workers, list(launcher)
        self.data_flags = [f"--{name}={value}" for name, value in data.items()]

    def path(self, *names: str) -> str:
        """Path of a file or folder of the study."""
        return os.path.join(self.out_dir, *names)

    def folder(self, *names: str) -> RunFolder:
        """Run folder of a search or training of the study."""
        return RunFolder(self.path(*names))

    def run(self, module: str, arguments: Sequence[str], log: str, environment: Mapping[str, str] | None = None
            ) -> dict[str, float]:
        """Runs one command.

        Args:
            module: Module of the command.
            arguments: Flags of the command.
            log: File of the study that receives what the command prints.
            environment: Environment variables to add.

        Returns:
            The `seconds` and `cpu_seconds` that it took.

        Raises:
            InputError: If the command fails.
        """
        return steps.command(module, arguments, self.path(log), launcher=self._launcher, environment=environment)

    def run_all(self, module: str, jobs: Mapping[str, Sequence[str]], ended: Callable[[str], Any]) -> None:
        """Runs the commands that have not ended yet, several at a time.

        Args:
            module: Module of all commands.
            jobs: Flags of each command, by its folder in the study. The folder becomes --run_dir.
            ended: Function that tells whether the command of a folder has ended.

        Raises:
            InputError: If a command fails.
        """
        missing = {name: arguments for name, arguments in jobs.items() if not ended(name)}
        print(f"{len(jobs) - len(missing)} of {len(jobs)} are done.", flush=True)
        calls = [functools.partial(self._run_and_time, module, arguments, name)
                 for name, arguments in missing.items()]
        for _ in steps.in_parallel(calls, self._workers):
            pass

    def _run_and_time(self, module, arguments, name):
        used = self.run(module, [*arguments, f"--run_dir={self.path(name)}"], os.path.join(name, "log"),
                        steps.ONE_CORE)
        before = self.used(name) or {}  # an interrupted run took a part of them
        files.write_text(self.path(name, USED), json.dumps({
            kind: value + before.get(kind, 0.0) for kind, value in used.items()}) + "\n")

    def used(self, name: str) -> dict[str, float] | None:
        """The `seconds` and `cpu_seconds` that the command of a folder took, from start to end; None if unknown."""
        path = self.path(name, USED)
        return files.read_json(path) if os.path.exists(path) else None

    def search_ended(self, *names: str) -> bool:
        """Whether a search has delivered its network into a folder of the study."""
        folder = self.folder(*names)
        return os.path.exists(folder.inherited_weights) and "params" in arch_lib.load(folder.arch).costs

    def train_all(self, archs: Mapping[str, Arch], recipe: Sequence[str]) -> None:
        """Trains networks from scratch, all by the same recipe.

        Args:
            archs: Networks by name. The number after the last `_` of a name is the seed.
            recipe: Flags of pnas_tf.train.

        Raises:
            InputError: If a training fails.
        """
        jobs = {}
        for name, arch in archs.items():
            folder = self.training(name, arch)
            arch.save(self.folder(folder).arch)
            jobs[folder] = [*self.data_flags, *recipe, f"--seed={name.rsplit('_', 1)[1]}"]
        self.run_all("pnas_tf.train", jobs, lambda folder: os.path.exists(self.folder(folder).training_facts))

    def training(self, name: str, arch: Arch) -> str:
        """Folder in which a network is trained, relative to the study's: one per network and seed, whatever its name.

        Args:
            name: Name of the network, which ends in its seed.
            arch: The network.
        """
        return os.path.join("trained", f"{arch.fingerprint()}_{name.rsplit('_', 1)[1]}")


def parts(name: str) -> tuple[str, str, int]:
    """Kind, target and number of a network or search, from its name; the target is empty if the name has none."""
    kind, *target, number = name.split("_")
    return kind, "_".join(target), int(number)


def define_flags(stages: Sequence[str]) -> None:
    """Defines the flags of every study.

    Args:
        stages: Names of its stages, which all run by default.
    """
    flags.DEFINE_string("out_dir", None, "Folder of the study.", required=True)
    flags.DEFINE_integer("workers", 2, "Number of processes at a time, each on one core.", 1)
    flags.DEFINE_string("launcher", "", "Command that goes before each process, such as nice.")
    flags.DEFINE_list("stages", list(stages), "Stages to run.")


def check_stages(chosen: Sequence[str], stages: Sequence[str]) -> None:
    """Raises InputError if a name among `chosen` is not one of `stages`."""
    if unknown := set(chosen) - set(stages):
        raise InputError(f"--stages must be of {', '.join(stages)}; got {', '.join(sorted(unknown))}.")


def run_stages(calls: Mapping[str, Callable[[], None]], chosen: Sequence[str]) -> None:
    """Runs the chosen stages, in the order of `calls`."""
    for stage, call in calls.items():
        if stage in chosen:
            print(f"Stage {stage}.", flush=True)
            call()
