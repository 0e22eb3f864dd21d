"""The steps from a folder of pictures to a report: commands of this project, and the files that they read and write."""

import dataclasses
from collections.abc import Sequence

from pnas_tf import shell, terminal
from pnas_tf.auto import durations
from pnas_tf.auto.photos import Photos
from pnas_tf.cli import settings
from pnas_tf.cli.settings import ImageSettings, setting
from pnas_tf.cost import image_size, prices
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import spaces
from pnas_tf.space.blocks import Space

SPACE = "lite0"
SIDE = 96  # height and width of pictures, if none are named: minutes on 2 cores, and a fifth of the work of 224
MODES = ("float32", "float16", "int8")
# Share of the whole network's milliseconds that is aimed at, if none are named.
SHARE = 0.5
# Larger pictures that a refusal may name: so many pixels, in such steps, up to this share of their largest network.
LARGEST_SIDE, SIDE_STEP, FULL = 512, 32, 0.9


@dataclasses.dataclass(frozen=True)
class AutoConfig(ImageSettings):
    """Settings of the whole way from pictures to a report."""

    photos: str = setting("", "Folder of the pictures, with one folder for each class. It may stand without --photos=.")
    ms: float = setting(0.0, "Milliseconds that the network may take; 0: half of those of the whole pretrained "
                        "network.", low=0)
    table: str | None = setting(None, "Latency table of another device; default: one of this machine is made.")
    dtype: str = setting("float32", "Number format of the file whose milliseconds count. int8 usually takes less time "
                         "than float32, so a larger network fits.", choices=("float32", "int8"))
    image_size: int = setting(0, f"Height and width that the network sees, whatever the size of the photos; 0: {SIDE} "
                              "or, with --table, those of the table.",
                              low=0, high=8192)
    max_steps: int = setting(0, "Limit on the steps of search and training, for a trial run; 0: no limit.", low=0)
    seed: int = setting(0, "Seed of the split, the search and the training.", low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of this project.

    Attributes:
        name: Name of the step.
        purpose: What the command does, for the plan.
        module: Module of the command.
        arguments: Its arguments.
        reads: Files that decide whether the step has to run again; the folder of pictures counts as a file.
        writes: Files that exist after the step.
        seconds: Estimate of its duration.
    """

    name: str
    purpose: str
    module: str
    arguments: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    seconds: float

    @property
    def command(self) -> str:
        """The command, to paste."""
        return shell.line(["python", "-m", self.module, *self.arguments])


@dataclasses.dataclass(frozen=True)
class Goal:
    """Milliseconds to aim at.

    Attributes:
        ms: Milliseconds; 0 if they are not known yet.
        share: The same as a share of those of the whole pretrained network, at `largest`; a guess if `ms` is 0.
        side: Height and width of the pictures that suit these milliseconds.
        largest: Largest height and width in the table, at which the teacher learns.
        words: One line that explains the milliseconds.
    """

    ms: float
    share: float
    side: int
    largest: int
    words: str = ""


def table_step(config: AutoConfig, photos: Photos, folder: RunFolder) -> Step:
    """The step that measures a table of this machine."""
    side = config.image_size or SIDE
    smaller, path = smaller_sides(side), table_of(config, folder)
    arguments = (f"--space={SPACE}", f"--image_size={side}",
                 *([f"--smaller_images={','.join(map(str, smaller))}"] if smaller else []),
                 f"--num_classes={photos.classes}", *([f"--dtype={config.dtype}"] if _is_int8(config) else []),
                 f"--output={path}")
    return Step("table", "times every op of the space on this machine", "latency.build_table", arguments, (), (path,),
                durations.of_table(_space(side, photos), [side, *smaller]))


def later_steps(config: AutoConfig, photos: Photos, folder: RunFolder, goal: Goal) -> list[Step]:
    """The steps after the table, for the milliseconds of a goal."""
    run_dir, table, space = f"--run_dir={folder}", table_of(config, folder), _space(goal.side, photos)
    images = settings.differing(config, ImageSettings)
    trial = [f"--max_steps={config.max_steps}"] if config.max_steps else []
    side = [f"--image_size={config.image_size}"] if config.table and config.image_size else []
    seed = [f"--seed={config.seed}"] if config.seed else []
    search = (f"--space={SPACE}", f"--dataset=folder:{photos.path}", f"--table={table}", f"--target_ms={goal.ms:g}",
              *side, *images, *seed, *trial, *(["--teacher_epochs=1"] if trial else []), run_dir)
    exported = tuple(path for mode in MODES for path in (folder.tflite(mode), folder.export_facts(mode)))
    return [
        Step("search", "fine-tunes the whole network, and searches in it", "pnas_tf.search", search,
             (photos.path, table), (folder.arch, folder.front), durations.of_search(
                 space, photos.trained, (goal.largest, goal.side), config.max_steps)),
        Step("train", "trains the network with the whole one as its teacher", "pnas_tf.train",
             (run_dir, *images, *seed, *trial), (photos.path, folder.arch), (folder.model, folder.training_facts),
             durations.of_training(space, photos.trained, goal.side, goal.share, config.max_steps)),
        # A file that fails its check says so, and is recommended only if all do: no reason to end here.
        Step("export", "writes, checks and times .tflite files", "export.tflite",
             (run_dir, f"--mode={','.join(MODES)}", "--allow_drop", *(["--timing_seconds=0"] if trial else [])),
             (photos.path, folder.model), exported, durations.of_export(photos.tested, goal.side)),
        Step("bundle", "packs them for an app", "export.bundle", (run_dir, f"--mode={','.join(MODES)}"), exported,
             (folder.bundle(),), durations.of_bundle()),
        Step("report", "describes the network on one page", "pnas_tf.report", (run_dir,),
             (folder.arch, folder.training_facts, *exported), (folder.report,), durations.of_report())]


def table_of(config: AutoConfig, folder: RunFolder) -> str:
    """Path of the table that is searched with, or the name of a shipped one."""
    return config.table or folder.file(
        f"table{config.image_size or SIDE}{'_int8' if _is_int8(config) else ''}.jsonl")


def _is_int8(config: AutoConfig) -> bool:
    return config.dtype == "int8"


def smaller_sides(side: int) -> list[int]:
    """Further sizes of pictures for milliseconds far below the whole network's, largest first.

    They go down to half of the side, and to 32 pixels, of which a network of five strides of 2 still sees one.
    """
    step = 32 if side > 128 else 16
    return [smaller for smaller in range(side // step * step, 0, -step) if max(32, side / 2) <= smaller < side]


def not_known_yet(config: AutoConfig) -> Goal:
    """A goal for estimates, before there is a table."""
    side = config.image_size or SIDE
    return Goal(0.0, SHARE, side, side)


def goal_of(config: AutoConfig, photos: Photos, table: LatencyTable) -> Goal:
    """The milliseconds to aim at: those that were asked for, if a network can take them, or a default.

    Args:
        config: Settings.
        photos: Pictures.
        table: Latency table.

    Raises:
        InputError: If the table lacks rows, or no network takes so few milliseconds.
    """
    fixed = config.image_size if config.table else 0
    sides = [fixed] if fixed else image_size.sizes(spaces.SPACES[SPACE], table) or [SIDE]
    priced = [_space(side, photos) for side in sides]
    for space in priced:
        table.check_covers(space)
    whole, low, high = image_size.whole_ms(priced[0], table), _range(priced[-1], table)[0], _range(priced[0], table)[1]
    ms = config.ms or float(f"{SHARE * whole:.3g}")
    pixels = " to ".join(str(each) for each in sorted({sides[0], sides[-1]}))
    span = f"on {table.target}, networks for {pixels} pixels take {terminal.rounded_up(low, 3):g} to {high:.3g} ms"
    if ms < low:
        raise InputError(f"--ms={ms:g} is less than any network takes: {span}. Ask for more, or for smaller pictures "
                         "(--image_size).")
    unused = "" if ms <= high else (f" No network takes that many, so the most accurate one of all is looked for"
                                    f"{_larger(ms, sides[0], high, own_table=bool(config.table))}.")
    side = fixed or image_size.suited(spaces.SPACES[SPACE], table, ms)
    int8 = "" if config.table or _is_int8(config) else (
        " An int8 file usually takes less than half as long; to fit a larger network into these milliseconds: "
        "--dtype=int8.")
    why = "as asked" if config.ms else f"half of {whole:.3g} ms, since no --ms is given"
    return Goal(ms, min(ms / whole, 1.0), side, sides[0], (
        f"Goal: {ms:.3g} ms ({why}).{unused} The whole pretrained network takes {whole:.3g} ms for {sides[0]} x "
        f"{sides[0]} pixels; {span}. Pictures for this goal: {side} x {side} pixels.{int8}"))


def _larger(ms: float, side: int, high: float, *, own_table: bool) -> str:
    """Words on larger pictures, whose networks take more milliseconds; "" if none of a usual size take so many."""
    larger = next((each for each in range(SIDE_STEP * (side // SIDE_STEP + 1), LARGEST_SIDE + 1, SIDE_STEP)
                   if FULL * high * (each / side) ** 2 >= ms), None)
    if larger is None:
        return ""
    rows = " once the table has rows for them" if own_table else ""
    return (f"; larger pictures would make use of them{rows}: --image_size={larger}, with which training takes "
            f"{(larger / side) ** 2:.2g} times as long")


def _range(space: Space, table: LatencyTable) -> tuple[float, float]:
    return prices.matrix(space, prices.milliseconds(table)).range


def _space(side: int, photos: Photos) -> Space:
    return spaces.SPACES[SPACE].for_data(side, 3, photos.classes)


def total(steps: Sequence[Step]) -> float:
    """Sum of the estimates."""
    return sum(step.seconds for step in steps)
