"""What to do next with a run, as its folder stands: steps in words, with commands to paste."""

import dataclasses
import os

from pnas_tf import shell
from pnas_tf.cli.settings import ImageSettings
from pnas_tf.cost import table_commands
from pnas_tf.errors import printable
from pnas_tf.report import facts as run_facts
from pnas_tf.report import summary
from pnas_tf.report.facts import Facts
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder.folder import MODES


@dataclasses.dataclass(frozen=True)
class NextStep:
    """A thing to do.

    Attributes:
        words: Sentence, or its beginning if a command follows.
        command: Command to paste, or "".
    """

    words: str
    command: str = ""


def of_run(facts: Facts) -> list[NextStep]:
    """The steps, the most important first. Each command works on the folder as it is."""
    folder = RunFolder(facts.run_dir)
    if facts.is_unfinished:
        return [NextStep("The search is not complete. Unless it runs, this continues it:", search_command(facts))]
    if not facts.train:
        return [NextStep("Train the network:", _command(facts, "pnas_tf.train", *_image_flags(facts)))]
    return [*_files(facts, folder), *_target(facts), *_others(facts)]


def _files(facts: Facts, folder: RunFolder) -> list[NextStep]:
    """Steps from the trained network to a file in an app."""
    if facts.stale:
        return [NextStep(f"{summary.stale_files(facts)} Export again:", summary.export_again(facts))]
    if not facts.exports:
        return [NextStep("Make .tflite files:", _command(facts, "export.tflite"))]
    if not facts.bundle and os.path.exists(folder.bundle(zipped=True)):
        return []
    if not facts.bundle:
        return [NextStep("Pack the files for an app:", _command(facts, "export.bundle"))]
    recommended, reason = facts.bundle.get("recommended"), facts.bundle.get("reason")
    take = [NextStep(f"Take {recommended}.tflite. {printable(str(reason or ''), 400)}".strip())] \
        if recommended in MODES else []
    return [*take, NextStep("Try the network on a picture of your own:", shell.line(
        ["python", os.path.join(folder.bundle(), "run.py"), "--image=PICTURE"]))]


def _target(facts: Facts) -> list[NextStep]:
    """The step after a measurement that misses the target."""
    if facts.measured_on_target is None or summary.target_kept(facts).state != "bad":
        return []
    if facts.compared:
        return [NextStep("The file takes longer than asked. Search again for fewer milliseconds (--target_ms), or "
                         "train a quicker network of this search.")]
    return [NextStep("The file takes longer than asked. See how well the latency table predicts whole networks:",
                     compare_command(facts))]


def _others(facts: Facts) -> list[NextStep]:
    """Other networks of the same search."""
    others = [network.ms for network in facts.front if not network.delivered]
    if not others:
        return []
    return [NextStep(f"Train another network of the search, of {', '.join(f'{ms:.3g}' for ms in others)} ms:",
                     _command(facts, "pnas_tf.train", f"--pick={others[0]:.3g}ms", *_image_flags(facts)))]


def search_command(facts: Facts) -> str:
    """Command that continues or repeats the search."""
    return shell.line(["python", "-m", "pnas_tf.search", f"--flagfile={RunFolder(facts.run_dir).flags}"])


def compare_command(facts: Facts) -> str:
    """Command that compares the table of a run with whole networks, for its report."""
    space = facts.flags.get("space") or (facts.arch.space.name if facts.arch else "SPACE")
    named_by = table_commands.named_by(space, run_facts.number_of_text(facts.flags.get("width_mult")) or 1.0)
    return table_commands.compare(facts.flags.get("table") or "TABLE.jsonl", [
        *(table_commands.space_flags(facts.arch.space, named_by) if facts.arch else named_by), "--networks=20",
        f"--json={RunFolder(facts.run_dir).comparison}"])


def _command(facts: Facts, module: str, *arguments: str) -> str:
    """A command on the run folder, which loads the same files of the user's (--import) as the search."""
    imported = [f"--import={path}" for path in facts.flags.get("import", "").split(",") if path]
    return shell.line(["python", "-m", module, *imported, f"--run_dir={facts.run_dir}", *arguments])


def _image_flags(facts: Facts) -> list[str]:
    """The flags about images that a training shares with the search, where they differ from their defaults."""
    return [f"--{field.name}={facts.flags[field.name]}" for field in dataclasses.fields(ImageSettings)
            if facts.flags.get(field.name, str(field.default)) != str(field.default)]
