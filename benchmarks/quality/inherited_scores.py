"""Scores of networks with weights inherited from a warmed-up supernet, to rank them without training."""

import os

from benchmarks.quality import study_networks, warm_supernet
from pnas_tf import files

# Number of random networks scored at each target.
POOL = 64
EVAL_BATCH_SIZE, EVAL_BATCHES = 250, 20


def write(study, data, warm_up: warm_supernet.WarmUp, without: str) -> None:
    """Writes scores into two files of a study: ops, loss and accuracy of each network, on held-out images.

    pool.json holds those of random networks for each target, and is written once. inherited.json holds those of the
    study's networks by name, as far as they belong to its space; networks that it has already are not scored again.

    Args:
        study: The `search_quality.Study`.
        data: Data set, from `data.load`.
        warm_up: Settings of the supernet's warm-up.
        without: Part of the names of ops that no random network holds.
    """
    from pnas_tf.network import evaluate
    from pnas_tf.supernet import path_scorer, supernet

    supernet.set_graph_optimiser(False)
    net = warm_supernet.warmed(study.space, data, warm_up)
    scorer = path_scorer.PathScorer(net, data.held_out.batches(EVAL_BATCH_SIZE).take(EVAL_BATCHES))
    scores: dict[bytes, evaluate.Score] = {}  # A network may have several names, one for each seed.

    def score(arch):
        path = net.path(arch)
        if path.tobytes() not in scores:
            scores[path.tobytes()] = scorer.score(path)
        of_path = scores[path.tobytes()]
        return {"ops": arch.ops, "loss": of_path.loss, "accuracy": of_path.accuracy}

    if not os.path.exists(study.path("pool.json")):
        pools = {op: study_networks.random_within(study.space, limit, POOL, seed=2, without=without)
                 for op, limit in study.limits().items()}
        study.write_json("pool.json", {op: [score(arch) for arch in pool] for op, pool in pools.items()})
    path = study.path("inherited.json")
    ranked = files.read_json(path) if os.path.exists(path) else {}
    for name, arch in study.networks().items():
        if arch.space.name == study.space.name and ranked.get(name, {}).get("ops") != arch.ops:
            ranked[name] = score(arch)
    study.write_json("inherited.json", ranked)
