"""How well 50 timed networks and the tables of other devices predict a new device, on published times of phones.

    python -m benchmarks.targets.transfer --data=help_fbnet.npz

The file holds `archs`, whole numbers [networks, layers], and under the name of each device milliseconds [networks] in
the order in which the networks were timed. It can be made from the data of HELP (HayeonLee/HELP, data/fbnet). Each
phone is predicted with the tables of all other devices. Ways to know its pace:

    no pace     as full, with times as they are
    full        a table from four fifths of all networks, no other device; pace from networks near in time
    neighbours  50 or 100 networks give the rows; the pace of any network is that of all networks near in time but
                itself, which stand in for an anchor network that is timed all along
    strict      networks of a stretch of time, every second one: these alone give rows and pace, the others are held out
"""

from collections.abc import Sequence

import numpy as np
from absl import flags

from latency import fit_networks
from latency import pace as pace_lib
from latency.fit_networks import Networks
from pnas_tf.cli import start
from pnas_tf.errors import InputError

PHONES = ("pixel2", "samsung_s7", "samsung_a50", "essential_ph_1")
TIMED = (50, 100)
# Networks that the table of another device is fitted to.
SOURCE_NETWORKS = 2000
FOLDS = 5
# Alternations of rows and pace with the neighbours' pace.
ROUNDS = 3


def read(path: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Counts of rows, float64 [networks, rows], and milliseconds by device, float64 [networks].

    Args:
        path: Path of the .npz file.

    Raises:
        InputError: If the file does not hold networks and times.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        archs = arrays.pop("archs").astype(int)
        times = {name: ms.astype(np.float64) for name, ms in arrays.items()}
        if archs.ndim != 2 or archs.min() < 0 or any(ms.shape != archs.shape[:1] or not (ms > 0).all()
                                                     for ms in times.values()):
            raise ValueError("shapes differ")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: expected an .npz file with archs [networks, layers] and milliseconds [networks] of "
                         f"each device ({error}). See the command's --help.") from None
    return counts_of(archs), times


def counts_of(archs: np.ndarray) -> np.ndarray:
    """Occurrences of each row in each network, float64 [networks, rows].

    The last op of a layer is the one that the others are compared with and has no row; a last row is in every network.

    Args:
        archs: Op of each layer, int [networks, layers].
    """
    ops = np.arange(archs.max())
    chosen = (archs[:, :, None] == ops).reshape(len(archs), -1)
    return np.concatenate([chosen, np.ones((len(archs), 1))], axis=1)


def full_table(counts: np.ndarray, ms: np.ndarray, pace: np.ndarray | None = None) -> float:
    """Share of held-out networks within 5 % by a table of the device itself; without `pace` it is estimated."""
    times, flat, errors = np.arange(len(ms), dtype=np.float64), np.ones((1, counts.shape[1])), np.empty(len(ms))
    fold = np.random.default_rng(0).integers(FOLDS, size=len(ms))
    for number in range(FOLDS):
        networks, held_out = Networks(counts, ms, pace, times), fold == number
        errors[held_out] = fit_networks.errors_of(fit_networks.fit(networks.part(~held_out), flat),
                                                  networks.part(held_out))
    return within(errors)


def by_neighbours(counts: np.ndarray, ms: np.ndarray, sources: np.ndarray, timed: int, seed: int) -> float:
    """Share of held-out networks within 5 %, with the pace of neighbours in time."""
    times, pace = np.arange(len(ms), dtype=np.float64), np.ones(len(ms))
    train = np.random.default_rng(seed).choice(len(ms), timed, replace=False)
    for _ in range(ROUNDS):
        rows = fit_networks.fit(Networks(counts, ms, pace, times).part(train), sources).row_ms
        pace = pace_lib.curve(times, ms / (counts @ rows)).left_out()[0]
    return within(np.delete(pace * (counts @ rows) / ms - 1, train))


def strict(counts: np.ndarray, ms: np.ndarray, sources: np.ndarray, timed: int, first: int) -> float:
    """Share of held-out networks within 5 %; every second one of a stretch of networks gives rows and pace."""
    stretch = np.arange(first, first + 2 * timed)
    networks = Networks(counts, ms, None, np.arange(len(ms), dtype=np.float64))
    table = fit_networks.fit(networks.part(stretch[::2]), sources)
    return within(fit_networks.errors_of(table, networks.part(stretch[1::2])))


def within(errors: np.ndarray) -> float:
    """Share of relative errors of at most 5 %."""
    return float(np.mean(np.abs(errors) <= 0.05))


def run(path: str, phones: Sequence[str] = PHONES, repeats: int = 5) -> dict[str, dict[str, list[float]]]:
    """Shares within 5 % by protocol and phone, one for each repetition.

    Args:
        path: Path of the .npz file.
        phones: Devices to predict.
        repeats: Draws of the timed networks, and stretches of time.

    Raises:
        InputError: If the file does not hold networks and times.
    """
    counts, ms = read(path)
    if unknown := [phone for phone in phones if phone not in ms]:
        raise InputError(f"{path} has no device {unknown[0]}. Its devices: {', '.join(ms)}.")
    flat, some = np.ones((1, counts.shape[1])), slice(SOURCE_NETWORKS)
    order = np.arange(len(counts), dtype=np.float64)
    tables = {name: fit_networks.fit(Networks(counts[some], times[some], None, order[some]), flat).row_ms
              for name, times in ms.items()}
    result: dict[str, dict[str, list[float]]] = {}
    for phone in phones:
        sources = np.stack([table for name, table in tables.items() if name != phone])
        result.setdefault("no pace", {})[phone] = [full_table(counts, ms[phone], np.ones(len(counts)))]
        result.setdefault("full", {})[phone] = [full_table(counts, ms[phone])]
        for timed in TIMED:
            stretches = np.linspace(0, len(counts) - 2 * timed, 2 * repeats).astype(int)
            result.setdefault(f"neighbours {timed}", {})[phone] = [
                by_neighbours(counts, ms[phone], sources, timed, seed) for seed in range(repeats)]
            result.setdefault(f"strict {timed}", {})[phone] = [
                strict(counts, ms[phone], sources, timed, int(first)) for first in stretches]
        print(f"{phone}: " + "; ".join(f"{name} {np.mean(shares[phone]):.1%} ({min(shares[phone]):.0%} to "
                                       f"{max(shares[phone]):.0%})" for name, shares in result.items()), flush=True)
    return result


def show(result: dict[str, dict[str, list[float]]]) -> str:
    """A table of the means, in Markdown."""
    phones = list(next(iter(result.values())))
    lines = ["| protocol | " + " | ".join(phones) + " |", "| --- " * (len(phones) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{np.mean(shares[phone]):.1%}" for phone in phones) + " |"
              for name, shares in result.items()]
    return "\n".join(lines)


def _main() -> None:
    f = flags.FLAGS
    if not f.data:
        raise InputError("Name the file of networks and times: --data=FILE.npz.")
    print("\nHeld-out networks within 5 %:\n\n" + show(run(f.data, f.phones, f.repeats)))


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("data", None, "The .npz file of networks and times.")
    flags.DEFINE_list("phones", list(PHONES), "Devices to predict.")
    flags.DEFINE_integer("repeats", 5, "Draws of the timed networks.", 1, 1000)
    start.start(_main)


if __name__ == "__main__":
    main()
