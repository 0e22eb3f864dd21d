"""The command pnas_tf.search, from flags to files: it runs, resumes, and refuses bad input."""

import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from pnas_tf import data, network
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder, front_file
from pnas_tf.search import command as search_command
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem, Request
from pnas_tf.space import arch
from tests import forked
from tests.spaces import TINY

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_space):
    """A space and a table of made-up prices, as a user would have them on disk."""
    folder = tmp_path_factory.mktemp("inputs")
    write_space(TINY, folder / "space.json", folder / "table.jsonl")
    write_space(TINY.for_data(28, 3, 2), folder / "rgb.json", folder / "rgb.jsonl")
    return folder


def command(files, run_dir, *more, module="pnas_tf.search"):
    flags = [f"--space={files}/space.json", f"--table={files}/table.jsonl", "--batch_size=32", "--warmup_epochs=1",
             "--search_epochs=3", "--arch_every=1", "--max_steps=24", "--front=3", f"--run_dir={run_dir}"]
    return [module, *(flags if module == "pnas_tf.search" else [f"--run_dir={run_dir}"]), *more]


def run(arguments):
    return forked.run(arguments, cwd=ROOT, timeout=300)


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("finished")
    result = subprocess.run([sys.executable, "-m", *command(files, run_dir)], cwd=ROOT, capture_output=True, text=True,
                            timeout=300)
    assert result.returncode == 0, result.stderr
    return run_dir, result


def test_search_leaves_a_whole_run_folder(finished):
    run_dir, result = finished
    delivered = arch.load(str(run_dir / "arch.json"))
    model = network.build_network(delivered)
    assert delivered.costs["params"] == network.count_params(model)
    assert delivered.costs["macs"] == network.count_macs(model)
    assert delivered.costs["target"] == "test"
    lines = RunFolder(str(run_dir)).read_metrics()
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    assert [line["phase"] for line in lines] == ["warmup", "search", "search", "search"]
    assert "held_out_loss" not in lines[0] and lines[1]["held_out_loss"] > 0
    assert all(0 < line["derived_loss"] < 10 and 0 <= line["derived_accuracy"] <= 1 for line in lines)
    for line in lines:
        for row in line["probs"].values():
            assert sum(row.values()) == pytest.approx(1, abs=1e-5)
    assert len(list((run_dir / "checkpoints").iterdir())) == 2
    assert any(name.name.startswith("events") for name in (run_dir / "logs").iterdir())
    model.load_weights(run_dir / "inherited.weights.h5")
    assert re.search(r"epoch 4/4 search: loss [\d.]+, held-out [\d.]+, [\d.]+ of [\d.]+ ms, .* left", result.stdout)


def test_another_network_of_the_front_is_trained(finished):
    """The quickest one, into its own folder; the delivered network's folder stays as it is."""
    run_dir, result = finished
    front = front_file.read(str(run_dir / "front.json"))
    delivered = [network for network in front if network.delivered]
    assert len(delivered) == 1 and delivered[0].ops == arch.load(str(run_dir / "arch.json")).ops
    assert front[0].ms < delivered[0].ms or len(front) == 1
    assert "delivered" in result.stdout and "above the target" in result.stdout
    trained = run(command(None, run_dir, f"--pick={front[0].ms:.3g}ms", "--epochs=1", "--max_steps=2",
                          module="pnas_tf.train"))
    assert trained.returncode == 0, trained.stderr
    folder = run_dir / "front" / front[0].folder
    assert (folder / "model.keras").exists() and f"--run_dir={folder}" in trained.stdout
    assert arch.load(str(folder / "arch.json")).ops == front[0].ops and not (run_dir / "model.keras").exists()


@pytest.mark.parametrize(("pick", "expected"), [("1e-5ms", "There are networks of"), ("soon", "such as 3.2ms")])
def test_a_pick_that_is_not_there_is_one_line(finished, pick, expected):
    result = run(command(None, finished[0], f"--pick={pick}", module="pnas_tf.train"))
    assert result.returncode == 1 and expected in result.stderr and "Traceback" not in result.stderr


def test_a_start_from_images_that_are_held_out_is_refused(finished, files, tmp_path):
    result = run(command(files, tmp_path / "run", f"--init_weights={finished[0]}", "--seed=1"))
    assert result.returncode == 1 and "was trained on images that are held out now" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag, record", [
    ("--teacher={}/teacher/model.keras", "run.flags"), ("--init_weights={}/teacher/model.keras", "run.flags"),
    ("--init_weights={}/teacher/model.keras", "teacher/train.json"),
    ("--teacher={}/teacher/model.keras", "train.json")])
def test_a_teacher_that_knows_held_out_images_is_refused(files, tmp_path, flag, record):
    (tmp_path / "old" / "teacher").mkdir(parents=True)
    (tmp_path / "old" / "teacher" / "model.keras").write_bytes(b"a network")
    for seed, known in (("3", True), ("0", False)):
        (tmp_path / "old" / record).write_text(
            f"--dataset=fashion_mnist_small\n--seed={seed}\n" if record == "run.flags" else
            json.dumps({"data": {"dataset": "fashion_mnist_small", "seed": int(seed), "held_out_size": None}}))
        result = run(command(files, tmp_path / "run", flag.format(tmp_path / "old"), "--dataset=fashion_mnist_small"))
        assert result.returncode == 1 and ("was trained on images that are held out now" in result.stderr) == known
        assert known == ("Give --seed=3." in result.stderr), result.stderr


@pytest.mark.slow
def test_search_says_what_is_known_of_its_table(finished, files, tmp_path):
    assert ("Warning: the accuracy of table test for networks of tiny is unknown. Measure it: python -m "
            f"latency.compare --table={files}/table.jsonl --space={files}/space.json "
            "--image_size=") in finished[1].stdout
    lines = (files / "table.jsonl").read_text().splitlines()
    head = json.loads(lines[0]) | {"accuracy": {latency_table.accuracy_name(TINY): {
        "within_5_percent": 0.93, "within_10_percent": 1.0, "rmse_of_mean": 0.021, "bias": -0.23}}}
    (tmp_path / "compared.jsonl").write_text("\n".join([json.dumps(head), *lines[1:]]) + "\n")
    result = run(command(files, tmp_path / "run", f"--table={tmp_path}/compared.jsonl", "--max_steps=4",
                         "--cutout=2"))
    assert "predicted 93% of whole networks within 5 % and 100% within 10 %, RMSE 2.1% of the mean" in result.stdout
    # At the start with the command that mends it, and at the end.
    assert result.stdout.count("Warning: As the machine was then, this table is 23 % low.") == 2, result.stdout
    assert "Build a new table and search with it: python -m latency.build_table --space=" in result.stdout
    assert result.stdout.splitlines()[-1].endswith(f"pnas_tf.train --run_dir={tmp_path}/run --cutout=2")


def test_the_network_delivered_is_the_best_finalist(finished):
    """It keeps every limit, and is the one of lowest expected loss or a quicker one."""
    run_dir, result = finished
    delivered, facts = arch.load(str(run_dir / "arch.json")), json.loads((run_dir / "finalists.json").read_text())
    target_ms, finalists = facts["limits"]["ms"], facts["finalists"]
    assert finalists[0]["ops"] == delivered.ops and delivered.costs["table_ms"] <= target_ms * (1 + 1e-6)
    best = min((finalist for finalist in finalists if finalist["eligible"]), key=lambda each: each["expected_loss"])
    assert finalists[0]["eligible"] and finalists[0]["costs"]["ms"] <= best["costs"]["ms"] and "loss" in finalists[0]
    assert len({json.dumps(finalist["ops"]) for finalist in finalists}) == len(finalists)
    hows = [finalist["how"] for finalist in finalists]
    assert "most probable within the limits" in hows and hows.count("arg-max") <= 1
    assert "Chosen from" in result.stdout
    lines = RunFolder(str(run_dir)).read_metrics()
    assert "random_accuracy_sd" in lines[0] and "multiplier_ms" in lines[-1]
    assert 0 <= lines[0]["random_accuracy_mean"] <= 1 and lines[0]["random_accuracy_images"] >= 1
    assert facts["held_out_images"] >= 1 and 0 < facts["largest_class_share"] <= 1


@pytest.mark.slow
def test_trials_choose_by_what_networks_learn_alone(files, tmp_path):
    """Each entrant is trained on its own. The same command again trains nothing and makes the same choice."""
    run_dir, more = tmp_path / "run", ("--trials=2", "--trial_epochs=1", "--latency_loss=none", "--max_steps=4")
    result = run(command(files, run_dir, *more))
    assert result.returncode == 0, result.stderr
    finalists = json.loads((run_dir / "finalists.json").read_text())["finalists"]
    trained = [json.loads((run_dir / "trials" / name / "train.json").read_text()) for name in ("0", "1")]
    entrants = finalists[:2]
    assert {finalist["trial_accuracy"] for finalist in entrants} == {facts["test_accuracy"] for facts in trained}
    assert all("trial_accuracy" not in finalist for finalist in finalists[2:])
    assert len({finalist["how"] for finalist in entrants}) == 2 and all(finalist["eligible"] for finalist in entrants)
    ops = arch.load(str(run_dir / "arch.json")).ops
    assert finalists[0]["ops"] == ops and "after its trial" in result.stdout and "Trial 2 of 2" in result.stdout
    assert "latency was free" in result.stdout and "target" not in result.stdout
    held_out = json.loads((run_dir / "inputs.json").read_text())["held-out images"]
    assert all(str(facts["test_images"]) == held_out for facts in trained)  # the test images were not looked at
    again = run(command(files, run_dir, *more))
    assert again.returncode == 0 and "Trial" not in again.stdout
    assert arch.load(str(run_dir / "arch.json")).ops == ops


@pytest.mark.slow
def test_further_limits_are_kept(files, tmp_path):
    result = run(command(files, tmp_path / "run", "--limit=params<=3000", "--limit=macs<=1.2e5", "--target_ms=0.36"))
    assert result.returncode == 0, result.stderr
    costs = arch.load(str(tmp_path / "run" / "arch.json")).costs
    assert costs["params"] <= 3000 and costs["macs"] <= 1.2e5 and costs["table_ms"] <= 0.36
    line = RunFolder(str(tmp_path / "run")).read_metrics()[-1]
    assert {"multiplier_ms", "multiplier_params", "multiplier_macs", "expected_params", "expected_macs"} <= set(line)


@pytest.mark.slow
def test_several_targets_from_one_supernet(files, tmp_path):
    """The folder of each target is a run folder of its own, which pnas_tf.train can use."""
    text = (files / "table.jsonl").read_text().replace('"test"', '"other"')
    (tmp_path / "other.jsonl").write_text(text)
    targets = f"--targets={files}/table.jsonl:0.3,{tmp_path}/other.jsonl:0.35"
    result = run(command(files, tmp_path / "run", targets, "--table="))
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 4 and all(line.count("off 2 targets") == 1 and len(line) <= 80 for line in lines)
    for name, target_ms in (("test_0.3ms", 0.3), ("other_0.35ms", 0.35)):
        folder = tmp_path / "run" / name
        delivered = arch.load(str(folder / "arch.json"))
        assert delivered.costs["table_ms"] <= target_ms and delivered.costs["target"] == name.split("_")[0]
        lines = RunFolder(str(folder)).read_metrics()
        assert [line["epoch"] for line in lines] == [0, 1, 2, 3] and lines[-1]["held_out_loss"] > 0
        network.build_network(delivered).load_weights(folder / "inherited.weights.h5")
    before = (tmp_path / "run" / "test_0.3ms" / "arch.json").read_bytes()
    again = run(command(files, tmp_path / "run", targets, "--table="))
    assert again.returncode == 0 and "Continuing after epoch 4 of 4" in again.stdout
    assert (tmp_path / "run" / "test_0.3ms" / "arch.json").read_bytes() == before
    trained = run(command(None, tmp_path / "run" / "other_0.35ms", "--epochs=1", module="pnas_tf.train"))
    assert trained.returncode == 0, trained.stderr


def test_search_is_quiet(finished):
    assert finished[1].stderr == ""


@pytest.mark.slow
def test_same_command_on_a_finished_folder_ends_at_once_with_the_same_arch(finished, files):
    run_dir, _ = finished
    before = (run_dir / "arch.json").read_bytes()
    result = run(command(files, run_dir))
    assert result.returncode == 0 and "Continuing after epoch 4 of 4" in result.stdout
    assert (run_dir / "arch.json").read_bytes() == before


@pytest.mark.slow
def test_interrupted_search_goes_on_to_the_same_result(finished, files, tmp_path):
    run_dir, _ = finished

    def take_signals():  # a shell's background job, as CI may be, ignores SIGINT, and so would what it starts
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen([sys.executable, "-m", *command(files, tmp_path / "run")], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE, preexec_fn=take_signals) as process:
        for line in process.stdout:
            if line.startswith("epoch 1/4"):  # next comes a step that is compiled first: time enough
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        assert process.wait(60) == 130
    assert "The same command continues" in rest
    result = run(command(files, tmp_path / "run"))
    assert result.returncode == 0 and "Continuing after epoch" in result.stdout
    assert (tmp_path / "run" / "arch.json").read_bytes() == (run_dir / "arch.json").read_bytes()
    timing = {"seconds", "step_ms"}
    first, second = ([{k: v for k, v in line.items() if k not in timing} for line in RunFolder(str(d)).read_metrics()]
                     for d in (run_dir, tmp_path / "run"))
    assert first == second


def test_other_flags_in_a_used_folder_are_refused(finished, files):
    result = run(command(files, finished[0], "--lr=0.9"))
    assert result.returncode == 1
    assert "other flags or files: --lr=0.0 then, 0.9 now" in result.stderr


def test_a_table_that_was_measured_again_is_refused_in_a_used_folder(finished, files):
    table = files / "table.jsonl"
    before = table.read_text()
    table.write_text(before.replace('"median_ms": ', '"median_ms": 1', 1))
    try:
        result = run(command(files, finished[0]))
    finally:
        table.write_text(before)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "holds a run with other flags or files: milliseconds on" in result.stderr and "space" not in result.stderr


def test_images_that_changed_under_their_name_are_other_inputs(files):
    """As many images and labels as before; those of the test are not looked at."""
    request = Request.of(SearchConfig(space=f"{files}/space.json", table=f"{files}/table.jsonl"))
    x, y = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8), np.arange(60) % 10
    labels = y.copy()
    labels[[0, 1, 10, 11]] = labels[[1, 0, 11, 10]]

    def inputs(x=x, y=y, test=x[:20]):
        problem = Problem.of(request, data.from_arrays((x, y), (test, np.arange(20) % 10)))
        return search_command._inputs([problem], request.config).items()

    assert inputs() == inputs() == inputs(test=x[20:40])
    assert {name for name, _ in inputs() - inputs(x=x[::-1], y=y[::-1])} == {
        "contents of the training images", "contents of the held-out images"}
    assert "contents of the training images" in dict(inputs() - inputs(y=labels))


@pytest.mark.slow
def test_a_search_that_starts_from_another(finished, files, tmp_path):
    result = run(command(files, tmp_path / "run", "--max_steps=4", f"--init_weights={finished[0]}"))
    assert result.returncode == 0, result.stderr
    assert f" ops come from {finished[0]}; the others start from scratch." in result.stdout
    result = run(command(files, tmp_path / "other", "--max_steps=4", f"--init_weights={tmp_path}/none"))
    assert result.returncode == 1 and "neither the folder of a search nor a .keras file" in result.stderr


@pytest.mark.slow
def test_run_flags_run_again(finished, tmp_path):
    result = run(["pnas_tf.search", f"--flagfile={finished[0]}/run.flags", f"--run_dir={tmp_path}/again"])
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again" / "arch.json").read_bytes() == (finished[0] / "arch.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", [
    ["--arch_update=reinforce"], ["--class_weights=balanced", "--expected_latency=pair", "--latency_loss=add_linear"],
    ["--paths=all", "--latency_loss=add_linear"], ["--latency_loss=none", "--active_draw=softmax"],
    ["--precision=mixed_bfloat16", "--bn_recalibration_batches=0"]])
def test_other_methods_search_too(files, tmp_path, method):
    result = run(command(files, tmp_path / "run", *method, "--max_steps=6"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "arch.json").exists()


@pytest.mark.parametrize("init", ["scratch", pytest.param("inherited", marks=pytest.mark.slow)])
def test_train_writes_a_model_that_loads_anywhere(finished, tmp_path, init):
    run_dir, _ = finished
    result = run(command(None, run_dir, "--epochs=1", "--batch_size=256", f"--init_weights={init}",
                         "--overwrite", module="pnas_tf.train"))
    assert result.returncode == 0, result.stderr
    facts = json.loads((run_dir / "train.json").read_text())
    model = keras.models.load_model(run_dir / "model.keras")
    assert facts["params"] == arch.load(str(run_dir / "arch.json")).costs["params"]
    from pnas_tf import data

    images, labels = next(iter(data.load("fashion_mnist_small").test.batches(2000)))
    accuracy = np.mean(model.predict(images, verbose=0).argmax(1) == labels.numpy())
    assert accuracy == pytest.approx(facts["test_accuracy"], abs=1e-3)


def test_limits_that_exclude_each_other_state_what_is_left():
    """The quick ops are the heavy ones, so that each limit can be kept, but not both."""
    from pnas_tf.cost import goal as goals_lib

    heavy = {key: network.count_params(network.build_op(key)) for _, key in TINY.op_keys()}
    rows = {key: latency_table.row(key, median_ms=1e3 / params) for key, params in heavy.items()}
    table = latency_table.LatencyTable("t", {"target": "test"}, rows, {})
    free = goals_lib.goal_for(TINY, table, 0.0)
    low = min(free.ms.of_path(np.array(path)) for path in itertools.product(range(6), repeat=2))
    for factor in np.linspace(1, 1.01, 12):  # what the refusal asks for is accepted
        slower = latency_table.LatencyTable("t", table.header, {key: {**row, "median_ms": factor * row["median_ms"]}
                                                                for key, row in rows.items()}, {})
        with pytest.raises(InputError, match="ask for") as refused:
            goals_lib.goal_for(TINY, slower, 1e-9)
        goals_lib.goal_for(TINY, slower, float(re.search(r"ask for (\S+) to", str(refused.value))[1]))
    with pytest.raises(InputError, match="and keeps the other limits: ask for"):
        goals_lib.goal_for(dataclasses.replace(TINY, blocks=tuple(
            dataclasses.replace(block, ops=tuple(op for op in block.ops if op != "zero")) for block in TINY.blocks)),
            table, 1.01 * low, [("params", 2500)])


def table_without(files, tmp_path, op):
    lines = (files / "table.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "short.jsonl").write_text("".join(line for line in lines if f'"{op}"' not in line))
    return f"--table={tmp_path}/short.jsonl"


BAD = {
    "unknown flag": (["--no_such_flag=1"], "no_such_flag"),
    "unknown space": (["--space=nowhere"], "Unknown space 'nowhere'"),
    "unknown data set": (["--dataset=nothing"], "nothing"),
    "frozen without weights": (["--batch_norm=frozen"], "--batch_norm=frozen needs trained weights"),
    "missing folder": (["--dataset=folder:/no/such/place"], "/no/such/place"),
    "missing table": (["--table=/no/table.jsonl"], "No latency table at /no/table.jsonl"),
    "no table": (["--table="], "--table=FILE"),
    "impossible target": (["--target_ms=0.00001"], "ask for 0.22"),
    "impossible limit": (["--limit=params<=100"], "keeps params<=100: they have"),
    "impossible peak": (["--limit=peak_activation_bytes<=10"], "block stem alone needs"),
    "no limit": (["--limit=weight<5"], "NAME<=NUMBER"),
    "no milliseconds": (["--targets=table.jsonl"], "TABLE:MS"),
    "same goal twice": (["--targets={files}/table.jsonl:0.5,{files}/table.jsonl:0.5"], "twice"),
    "no such devices": (["--strategy=mirrored"], "--replicas=N"),
    "uneven shares": (["--strategy=mirrored", "--replicas=3"], "multiple of 3"),
    "logarithm of little": (["--latency_loss=mul_log", "--target_ms=0.3"], "add_linear"),
    "stray argument": (["stray"], "stray"),
    "out of bounds": (["--batch_size=-1"], "batch_size"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_no_folder(files, tmp_path, case):
    more, expected = BAD[case]
    result = run(command(files, tmp_path / "run", *(flag.format(files=files) for flag in more)))
    assert result.returncode != 0
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "arch.json").exists()


def test_table_without_a_needed_row_names_it(files, tmp_path):
    result = run(command(files, tmp_path / "run", table_without(files, tmp_path, "mb_k5_e6")))
    assert result.returncode == 1
    assert "no row for mb_k5_e6 on 7x7x8 -> 8, stride 1" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "latency.build_table" in result.stderr


def test_truncated_arch_is_one_line(finished, tmp_path):
    text = (finished[0] / "arch.json").read_text()
    (tmp_path / "arch.json").write_text(text[:200])
    result = run(["pnas_tf.train", f"--arch={tmp_path}/arch.json", f"--run_dir={tmp_path}",
                  "--dataset=fashion_mnist_small"])
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "cut off" in result.stderr
    assert os.listdir(tmp_path) == ["arch.json"]


def test_help_is_quick_and_names_the_flags():
    result = subprocess.run([sys.executable, "-m", "pnas_tf.search", "--help"], cwd=ROOT, text=True,
                            capture_output=True)
    assert "--target_ms" in result.stdout and "--flagfile=quickstart.flags" in result.stdout
    assert "tensorflow" not in result.stderr.lower()


@pytest.mark.parametrize("content, expected", [
    (b"no image at all", "1 of 13 image files cannot be read: not an image (a/broken.jpg)"),
    (b"\xff\xd8\xff\xe0 damaged where only decoding can tell \xff\xd9",
     "1 of 13 image files cannot be read: cut off or damaged (a/broken.jpg)")])
def test_broken_image_is_one_line(files, tmp_path, content, expected):
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):
            keras.utils.save_img(tmp_path / "photos" / label / f"{number}.jpg", np.zeros((32, 32, 3)))
    (tmp_path / "photos" / "a" / "broken.jpg").write_bytes(content)
    result = run(command(files, tmp_path / "run", f"--dataset=folder:{tmp_path}/photos", "--image_size=28",
                         f"--space={files}/rgb.json", f"--table={files}/rgb.jsonl", "--broken_images=refuse"))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    # The JPEG library prints lines of its own, too.
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and expected in errors[0]
