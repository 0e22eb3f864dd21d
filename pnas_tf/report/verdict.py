"""The result of a run in a few sentences, for the top of its report and for the end of `pnas_tf.auto`.

They say what the files of the run folder say. A network that was not trained or timed in this run is not compared with.
"""

from pnas_tf import terminal
from pnas_tf.files import number
from pnas_tf.report import facts as run_facts
from pnas_tf.report import small_data, summary
from pnas_tf.report.facts import Facts, text
from pnas_tf.run_folder import measured

# Difference of two accuracies in points that a text with one decimal shows.
SHOWN_POINTS = 0.05


def of_run(facts: Facts) -> list[str]:
    """The sentences: accuracy, milliseconds, and the number of warnings about the search."""
    if facts.arch is None:
        return ["The search has not found a network yet."]
    signs = len(run_facts.warnings(facts))
    warned = f"The search gave {signs} warning{'s' if signs > 1 else ''}: the report lists " \
        f"{'them' if signs > 1 else 'it'} under \"How the network was chosen\"." if signs else ""
    so_far = "The search is not complete: this is the best network so far." if facts.is_unfinished else ""
    return [sentence for sentence in (so_far, *accuracy(facts), milliseconds(facts), warned) if sentence]


def accuracy(facts: Facts) -> list[str]:
    """The accuracy of the network, beside that of the whole network of the search if this run has trained it.

    A second sentence says if the difference may be chance.
    """
    correct, images = number(facts.train.get("test_accuracy")), number(facts.train.get("test_images"))
    if correct is None:
        return [_untrained(facts)]
    named = f"{terminal.percent(correct)} of {f'{images:,.0f} ' if images else ''}test images are named correctly"
    whole = _accuracy_of_teacher(facts)
    if whole is None or not images or images < 1 or not 0 <= correct <= 1:
        return [f"{named}."]
    points = 100 * (correct - whole)
    error = 100 * small_data.ERRORS * small_data.standard_error([correct, whole], images)
    side = "the same as" if abs(points) < SHOWN_POINTS else \
        f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"
    compared = f"{named}, {side} {_teacher(facts)} ({terminal.percent(whole)}){_share(facts)}."
    chance = f"Differences of up to {error:.1f} points may be chance with so few images."
    return [compared, *([chance] if abs(points) <= error else [])]


def milliseconds(facts: Facts) -> str:
    """The milliseconds that were measured or else predicted, those that were asked for, and whether they are kept."""
    export, target_ms, predicted = facts.measured or {}, facts.target_ms, facts.cost("table_ms")
    time, card = measured.of_export(export), summary.target_kept(facts)
    asked = f" The target is {terminal.ms(target_ms)}: {card.note}." if target_ms else ""
    if time:
        where = text(export.get("target")) or "a device not named"
        return f"{export['mode']}.tflite takes {terminal.ms(time.ms)} on {where}{_lost(export)}.{asked}"
    if predicted is None:
        return asked.strip()
    where = facts.target or "a device not named"
    return f"The network takes {terminal.ms(predicted)} on {where}, according to its latency table.{asked}"


def _untrained(facts: Facts) -> str:
    """What is known of the accuracy before the network is trained."""
    correct = number(facts.finalists[0].get("accuracy")) if facts.finalists else None
    if correct is None or facts.held_out is None:
        return "The network is not trained yet."
    return (f"The network is not trained yet. With the weights of the search, it names {terminal.percent(correct)} of "
            f"{facts.held_out.images:,} held-out images correctly.")


def _accuracy_of_teacher(facts: Facts) -> float | None:
    """Test accuracy of the search's teacher; None if it was not tested on the same images."""
    same = all(facts.teacher.get(name) == facts.train.get(name) for name in ("dataset", "test_images"))
    correct = number(facts.teacher.get("test_accuracy"))
    return correct if same and correct is not None and 0 <= correct <= 1 else None


def _teacher(facts: Facts) -> str:
    pretrained = facts.arch.space.pretrained if facts.arch else None
    return "the whole pretrained network" if pretrained else "the largest network of the space"


def _share(facts: Facts) -> str:
    """The milliseconds beside those of the whole pretrained network, both by the table."""
    predicted, whole = facts.cost("table_ms"), facts.cost("pretrained_ms")
    return f", at {100 * predicted / whole:.0f} % of its milliseconds" if predicted and whole and whole > 0 else ""


def _lost(export: dict) -> str:
    """The points of accuracy that an exported file has lost or gained, if they can be seen."""
    here, keras = number(export.get("top1")), number(export.get("keras_top1"))
    points = 0.0 if here is None or keras is None else 100 * (here - keras)
    if abs(points) < SHOWN_POINTS:
        return ""
    return f", and is {abs(points):.1f} points {'more' if points > 0 else 'less'} accurate than the network in Keras"
