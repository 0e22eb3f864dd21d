"""Every setting of a search: name, default, bounds and meaning, said once. Flags and notebook read it."""

import dataclasses

from pnas_tf.cli.settings import PRECISIONS, ImageSettings, check, setting


@dataclasses.dataclass(frozen=True)
class Method:
    """How alpha learns (paper sections 3.2 and 3.3)."""

    latency_loss: str = setting("lagrangian", "How expected latency joins the loss of the architecture step.",
                                choices=("lagrangian", "add_linear", "mul_log", "none"))
    latency_strength: float = setting(0.1, "Weight of the latency term of add_linear.", low=0)
    arch_update: str = setting("gradient", "How alpha learns.", choices=("gradient", "reinforce"))
    paths: str = setting("two", "Ops observed in a gradient step.", choices=("two", "all"))
    active_draw: str = setting("even", "Which op of a sampled pair is active: either, or by their probabilities.",
                               choices=("even", "softmax"))
    expected_latency: str = setting("full", "Latency told to the loss: the network's expectation, or that over the "
                                    "sampled pairs alone.", choices=("full", "pair"))
    reward: str = setting("abs", "Reward that reinforce raises.", choices=("paper", "mnas", "abs"))
    reinforce_samples: int = setting(10, "Networks sampled for an update of reinforce.", low=1)
    alpha_lr: float = setting(0.0, "Learning rate of alpha; 0: scaled to the number of steps.", low=0)

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True)
class SearchConfig(ImageSettings, Method):
    """A search: what is searched, on which images, for which device, how, and for how long."""

    space: str = setting("quickstart", "Name of a search space, or path of a JSON file.")
    width_mult: float = setting(1.0, "Multiplies all widths of the space.", low=0.05, high=20)
    dataset: str = setting("fashion_mnist_small",
                           "fashion_mnist_small, fashion_mnist, cifar10, npz:PATH, folder:PATH or tfds:NAME.")
    data_dir: str | None = setting(None, "Folder of the data set's files.")
    image_size: int = setting(0, "Height and width of the images; 0: that of the space.", low=0, high=8192)
    held_out_size: int = setting(0, "Training images kept for alpha; 0: chosen by the data set's size.", low=0)
    table: str | None = setting(None, "Latency table: a file, or the name of a shipped one.")
    target_ms: float = setting(0.0, "Milliseconds asked for, never exceeded; 0: 0.75 of a random network's.", low=0)
    targets: tuple[str, ...] = setting(
        (), "Several at once, in place of --table and --target_ms: TABLE:MS,TABLE:MS,... One supernet is trained, and "
        "a network found for each.")
    limit: tuple[str, ...] = setting(
        (), "A further limit, never exceeded: params<=3e6, macs<=3e8, size_bytes<=4e6 (of the .tflite) or "
        "peak_activation_bytes<=5e5; may be repeated.", repeated=True)
    init_weights: str = setting("", "Weights to start from: the folder of an earlier search, or a .keras file of a "
                                "trained or imported network; ops that it lacks start from scratch.")
    batch_size: int = setting(256, "Images per step, over all replicas.", low=1)
    warmup_epochs: int = setting(40, "Epochs before alpha starts to learn.", low=0)
    search_epochs: int = setting(120, "Epochs with architecture steps.", low=1)
    arch_every: int = setting(5, "Weight steps for each architecture step.", low=1)
    warmup_lr: float = setting(0.05, "Learning rate at the start of the warm-up.", low=0)
    lr: float = setting(0.025, "Learning rate at the start of the search.", low=0)
    label_smoothing: float = setting(0.1, "Label smoothing of weight steps.", low=0, high=1)
    weight_decay: float = setting(4e-5, "Decay of the weights.", low=0)
    memory: str = setting("keep", "What gradients need: kept, or computed again (less memory, more time).",
                          choices=("keep", "recompute"))
    precision: str = setting("float32", "What ops compute in; weights, gates and alpha are float32 in each.",
                             choices=PRECISIONS)
    strategy: str = setting("none", "Devices: one, several of this machine, or several machines by TF_CONFIG.",
                            choices=("none", "mirrored", "multi_worker"))
    replicas: int = setting(0, "mirrored: devices to use; 0: every GPU.", low=0, high=64)
    bn_recalibration_batches: int = setting(20, "Training batches that set the batch norm statistics of the network "
                                            "that is delivered; 0: those of the search.", low=0)
    trials: int = setting(0, "Networks, of those the search suggests, that are trained from scratch for a while before "
                          "one is delivered; 0: the network of lowest loss with the supernet's weights.", low=0,
                          high=64)
    trial_epochs: int = setting(5, "Epochs of each of --trials.", low=1)
    max_steps: int = setting(0, "Weight steps that the whole search is squeezed into, for a trial run; 0: no limit.",
                             low=0)
    seed: int = setting(0, "Seed of initial weights, data order and sampled paths.", low=0, high=2**31 - 1)
    checkpoint_minutes: float = setting(10.0, "Minutes between checkpoints, at most; 0: only at the end of epochs.",
                                        low=0)

    def __post_init__(self):
        check(self)
