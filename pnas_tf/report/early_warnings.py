"""Signs in the log of a search that it has not worked. The search prints them at its end, and the report shows them.

The thresholds are values at which short searches failed. docs/troubleshooting.md says what to do about each sign.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from pnas_tf.files import number
from pnas_tf.report import small_data
from pnas_tf.report.small_data import HeldOut
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.run_folder.front_file import FrontNetwork

# Shares of the largest possible entropy.
HIGH_ENTROPY, LOW_ENTROPY = 0.85, 0.3
# Relative difference between expected latency and target.
OFF_TARGET = 0.05
# Smallest share of the target that networks use which are compared with the most probable one.
NEAR_TARGET = 0.9
# Standard deviation of accuracy over random paths, below which a supernet hardly ranks networks. The standard error of
# an accuracy is added to it.
HARDLY_RANKS = 0.01


def find(epochs: Sequence[dict[str, Any]], target_ms: float | None = None,
         finalists: Sequence[dict[str, Any]] = (), held_out: HeldOut | None = None,
         front: Sequence[FrontNetwork] = ()) -> list[str]:
    """Finds the signs; each is a short text.

    Args:
        epochs: Lines of metrics.jsonl, in order.
        target_ms: Milliseconds that the search aimed at, if latency was part of the loss.
        finalists: Entries of finalists.json.
        held_out: Images that the finalists were scored on, if that is recorded.
        front: Networks of front.json.
    """
    search = [epoch for epoch in epochs if epoch.get("phase") == "search"]
    signs = [_entropy(search), _zero(search), _off_target(search, target_ms), _ranking(epochs),
             _no_better(finalists, target_ms),
             small_data.no_better_than_largest_class(finalists, held_out),
             small_data.chosen_by_chance(front, target_ms, held_out)]
    return [sign for sign in signs if sign]


def _entropy(search):
    shares = [share for epoch in search if (share := _entropy_share(epoch.get("probs"))) is not None]
    if not shares:
        return None
    if len(shares) > 1 and shares[-1] > HIGH_ENTROPY:
        return (f"The probabilities stayed near uniform (entropy {shares[-1]:.0%} of the largest possible): the search "
                "has hardly decided. Give it more architecture steps (--arch_every, --search_epochs) or a longer "
                "warm-up.")
    early = shares[max(0, len(shares) // 3 - 1)]
    if early < LOW_ENTROPY:
        return (f"The probabilities were settled after a third of the search (entropy {early:.0%} of the largest "
                "possible): it decided before the weights had learned enough. Lower --alpha_lr.")
    return None


def _entropy_share(probs):
    """Mean of `-sum(p * log(p)) / log(len(p))` over the choices, 0 to 1, or None."""
    rows = [[p for p in row.values() if number(p) is not None] for row in _rows(probs)]
    shares = [-sum(p * math.log(p) for p in row if p > 0) / math.log(len(row)) for row in rows if len(row) > 1]
    return statistics.fmean(shares) if shares else None


def _zero(search):
    """Sign that blocks are skipped more and more while the loss does not fall: cost decides, and accuracy does not."""
    if len(search) < 2:
        return None
    first, last = ([row["zero"] for row in _rows(epoch.get("probs")) if number(row.get("zero")) is not None]
                   for epoch in (search[0], search[-1]))
    start, end = (epoch.get("held_out_loss") for epoch in (search[0], search[-1]))
    if first and last and number(start) is not None and number(end) is not None and end > 0.99 * start \
            and statistics.fmean(last) > 2 * statistics.fmean(first):
        return (f"Skipped blocks became {statistics.fmean(last) / statistics.fmean(first):.1f} times as probable while "
                "the held-out loss stood still: latency alone decides. Raise --target_ms or lengthen the warm-up "
                "(--warmup_epochs).")
    return None


def _off_target(search, target_ms):
    last = [epoch["expected_ms"] for epoch in search[-max(1, len(search) // 4):]
            if number(epoch.get("expected_ms")) is not None]
    if not target_ms or not last:
        return None
    off = statistics.fmean(last) / target_ms - 1
    if off <= OFF_TARGET:  # below the target, the multiplier rests
        return None
    return (f"In the last quarter of the search, the expected latency was {off:+.0%} off the target. The delivered "
            "network still keeps the target. With more architecture steps, the probabilities would reach it, too.")


def _ranking(epochs):
    epoch = next((epoch for epoch in epochs if number(epoch.get("random_accuracy_sd")) is not None), {})
    spread, chance = epoch.get("random_accuracy_sd"), _chance(epoch)
    if spread is None or spread >= math.hypot(HARDLY_RANKS, chance):
        return None
    by_chance = f"; chance alone gives about {100 * chance:.2f}" if chance else ""
    # A longer warm-up cannot help where differences of the size that counts are lost in chance.
    advice = ("More held-out images (--held_out_size) would tell more" if chance > HARDLY_RANKS
              else "Lengthen the warm-up (--warmup_epochs)")
    return (f"After the warm-up, random networks differed by {100 * spread:.2f} points in held-out accuracy (standard "
            f"deviation{by_chance}): the supernet hardly ranks them. {advice}.")


def _chance(epoch):
    """Standard error of the accuracy of random paths; 0 in logs that do not tell the number of images."""
    images, mean = number(epoch.get("random_accuracy_images")), number(epoch.get("random_accuracy_mean"))
    if images is None or mean is None or images < 1 or not 0 <= mean <= 1:
        return 0.0
    return small_data.standard_error([mean], images)


def _no_better(finalists, target_ms):
    def loss(entry):  # older runs have no expected loss, and scored all networks on the same images
        return number(entry.get("expected_loss", entry.get("first_loss", entry.get("loss"))))

    def near_target(entry):
        ms = number(entry["costs"].get("ms")) if isinstance(entry.get("costs"), dict) else None
        return not target_ms or ms is None or ms >= NEAR_TARGET * target_ms

    losses = {how: [loss(entry) for entry in finalists if isinstance(entry, dict) and entry.get("how") == how
                    and loss(entry) is not None and near_target(entry)]
              for how in (run_folder.MOST_PROBABLE, run_folder.SAMPLE)}
    probable, samples = losses.values()
    if not probable or len(samples) < 10 or probable[0] < statistics.fmean(samples):
        return None
    return ("The most probable network is no better on held-out images than the mean of sampled networks: the "
            "search has learned little about accuracy.")


def _rows(probs):
    return [row for row in probs.values() if isinstance(row, dict)] if isinstance(probs, dict) else []
