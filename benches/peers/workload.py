"""What all contenders share: an experiment file of ours, MNIST in memory, the clients' shares, timing and the report."""

import argparse
import dataclasses
import gzip
import json
import pathlib
import statistics
import time
import tomllib

import numpy as np

PRESETS = {
    "simple-cnn": [("conv", 32, 3, 1, 2), ("conv", 64, 3, 1, 2), ("conv", 128, 3, 1, 2), ("linear", 10)],
    "mlp-2nn": [("linear", 200), ("linear", 200), ("linear", 10)],
}


@dataclasses.dataclass
class Workload:
    name: str
    layers: list  # ("conv", channels, kernel, padding, pool) or ("linear", features)
    clients: int
    batch: int
    epochs: int
    optimizer: str
    lr: float
    sparsity: float
    anneal: float
    min_alive: int
    circuits: dict | None
    rounds: int
    seed: int


def read(path):
    """An experiment file: only what the workloads use, and IID, is understood."""
    e = tomllib.loads(pathlib.Path(path).read_text())
    training, sparsity = e["training"], e.get("sparsity", {})
    if e["partition"]["kind"] != "iid":
        raise SystemExit(f"{path}: partition.kind must be iid")
    model = e["model"]
    layers = PRESETS[model["preset"]] if "preset" in model else [
        ("conv", l["channels"], l["kernel"], l["padding"], l["pool"]) if l["kind"] == "conv" else ("linear", l["features"])
        for l in model["layers"]
    ]
    return Workload(
        e["name"], layers, e["partition"]["num_clients"], training["batch_size"], training["local_epochs"],
        training.get("optimizer", "adam"), training.get("lr", 0.001), sparsity.get("target", 0.0),
        sparsity.get("anneal", 0.5), sparsity.get("min_alive", 4), e.get("circuits"), e["rounds"], e["seed"],
    )


def shapes(workload):
    """Of every layer's weight, in order: (outputs, inputs, kernel, kernel) or (outputs, inputs)."""
    channels, side, found = 1, 28, []
    for kind, outputs, *rest in workload.layers:
        if kind == "conv":
            kernel, padding, pool = rest
            found.append((outputs, channels, kernel, kernel))
            channels, side = outputs, (side + 2 * padding - kernel + 1) // pool
        else:
            found.append((outputs, channels * side * side))
            channels, side = outputs, 1
    return found


def initial(workload):
    """[(weight, bias)]: PyTorch's defaults, both uniform within 1 / sqrt(fan in)."""
    rng = np.random.default_rng(workload.seed)
    draw = lambda shape, fan: (rng.uniform(-1, 1, shape) / np.sqrt(fan)).astype(np.float32)
    return [(draw(s, np.prod(s[1:])), draw(s[:1], np.prod(s[1:]))) for s in shapes(workload)]


def target_sparsity(workload, step, steps):
    """After a step counted from 0: s_t = S (t / A) for t < A = int(anneal T), then S."""
    ramp = int(workload.anneal * steps)
    return workload.sparsity * (step / ramp) if step < ramp else workload.sparsity


def read_idx(path):
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def mnist(folder, split, count=None):
    """Images normalised as floats, [n][1][28][28], and labels."""
    x = read_idx(folder / f"{split}-images-idx3-ubyte.gz")[:count].astype(np.float32)
    return ((x / 255 - 0.1307) / 0.3081)[:, None], read_idx(folder / f"{split}-labels-idx1-ubyte.gz")[:count].astype(np.int64)


def equal_precision(torch):
    """float32 throughout, as fedcircuit: cuDNN would round the factors of convolutions to TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def wait(torch, device):
    """Until the device has done what it was given: it works on while the clock is read."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped MNIST files")
    parser.add_argument("--experiment", type=pathlib.Path, default=root / "local-training.toml")
    parser.add_argument("--rounds", type=int, help="instead of the experiment's")
    parser.add_argument("--images", type=int, help="training images, instead of all")
    parser.add_argument("--search-steps", type=int, help="of each search for a circuit, instead of the experiment's")
    return parser


def run(args, contender, make):
    """Times rounds of make(workload, x, y, shares), which has round() and accuracy(x, y), and prints JSON. The first
    round, which may compile, is reported apart."""
    workload = read(args.experiment)
    if args.search_steps and workload.circuits:
        workload.circuits["steps"] = args.search_steps
    x, y = mnist(args.data, "train", args.images)
    shares = np.array_split(np.random.default_rng(workload.seed).permutation(len(x)), workload.clients)
    simulation = make(workload, x, y, np.stack([s[: len(shares[-1])] for s in shares]))
    seconds = []
    for _ in range(args.rounds or workload.rounds):
        start = time.perf_counter()
        simulation.round()
        seconds.append(time.perf_counter() - start)
    later = seconds[1:] or seconds
    result = {"contender": contender, "workload": workload.name, "seconds": statistics.median(later)}
    result |= {"fastest": min(later), "slowest": max(later), "first": seconds[0], "rounds": len(seconds)}
    result["images_per_second"] = shares[-1].size * workload.clients * workload.epochs / result["seconds"]
    result["accuracy"] = simulation.accuracy(*mnist(args.data, "t10k"))
    print(json.dumps(result, indent=2))
