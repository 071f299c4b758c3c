"""Computes what a run folder says of its circuits again, in PyTorch, from its weights and masks alone.

    python check_run.py RUN_FOLDER --data DIR

DIR, or DIR/mnist, holds MNIST's test files. The run must have saved its weights in every round that has circuits
(`--set output.save_clients=true --set output.save_every=1`); its source must be mnist, its preset simple-cnn.

Held to be equal, to the last image and the last channel: sufficiency, necessity and cross accuracy of every circuit
(circuits.json and circuits.csv), accuracy of the network on the class, connectivity, and in overlap.csv the sizes and
the IoU of every comparison (between edges where an edge is a pair of channels, not a weight). Where the best two logits
of an image are within 1e-5 of each other, another order of summation may answer differently; such images are counted
where it bears on the answer being right, and a count may be off by as many as it has.

Exit status: 0 all equal, 1 something differs, 2 the folder cannot be checked.
"""

import argparse
import csv
import gzip
import json
import pathlib
import sys
import tomllib
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

LAYERS = ["conv1", "conv2", "conv3"]
NEAR = 1e-5  # logits nearer than this may change places
SIDES = {"local": "clients_local_model", "global": "clients_global_model"}


# What the folder and the data set say


def refuse(problem):
    print(f"cannot be checked: {problem}", file=sys.stderr)
    sys.exit(2)


def idx(folder, stem, dims):
    """An IDX file of bytes as an array, packed or not."""
    for name in (f"{stem}-idx{dims}-ubyte", f"{stem}.idx{dims}-ubyte"):
        for path, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
            if path.is_file():
                data = opened(path, "rb").read()
                shape = np.frombuffer(data, ">u4", dims, 4)
                return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)
    return None


def test_images(data, limit):
    """The first `limit` test images, normalised, in order of their file, and their labels."""
    for folder in (data, data / "mnist"):
        pixels, labels = idx(folder, "t10k-images", 3), idx(folder, "t10k-labels", 1)
        if pixels is not None and labels is not None:
            pixels = torch.from_numpy(pixels[:limit].astype(np.float32))[:, None]
            return (pixels / 255 - 0.1307) / 0.3081, torch.from_numpy(labels[:limit].astype(np.int64))
    refuse(f"no t10k-images and t10k-labels of MNIST in {data} or {data / 'mnist'}")


class Run:
    """A run folder."""

    def __init__(self, folder):
        self.folder = folder
        if not (folder / "experiment.toml").is_file():
            refuse(f"{folder} is no run folder: it has no experiment.toml")
        self.experiment = tomllib.loads((folder / "experiment.toml").read_text())
        if self.experiment["data"]["source"] != "mnist" or self.experiment["model"].get("preset") != "simple-cnn":
            refuse(f"{folder} is not of mnist with simple-cnn")
        if "circuits" not in self.experiment:
            refuse(f"{folder} has no circuits")
        if self.experiment["circuits"]["ablation"] != "zero":
            refuse(f"{folder} fills closed channels with circuits.ablation = {self.experiment['circuits']['ablation']}")
        if not (folder / "circuits.json").is_file():
            refuse(f"{folder} has no circuits.json")
        self.circuits = json.loads((folder / "circuits.json").read_text())
        self.rows = {}
        for row in self.table("circuits.csv"):
            self.rows[int(row["round"]), row["model"], int(row["client"]), int(row["class"])] = row
        self.weights = {}

    def table(self, name):
        with open(self.folder / name, newline="") as file:
            return list(csv.DictReader(file))

    def network(self, number, client=None):
        """The weights of the global model after a round, or of a client's before it."""
        suffix = "" if client is None else f"_client_{client:04}"
        path = self.folder / "model" / f"round_{number:04}{suffix}.safetensors"
        if not path.is_file():
            refuse(f"{path} is missing; run with --set output.save_clients=true --set output.save_every=1")
        if path not in self.weights:
            self.weights[path] = {k: torch.from_numpy(v) for k, v in load_file(path).items()}
        return self.weights[path]

    def entries(self):
        """Every circuit measured: (round, side, client, class) and its object of circuits.json."""
        for round_key, sides in self.circuits.items():
            for side, key in SIDES.items():
                for client, classes in sides[key].items():
                    for name, circuit in classes.items():
                        if circuit["metrics"]:
                            place = round_key.removeprefix("round_"), client.removeprefix("client_"), name.split()[0]
                            number, client_number, cls = map(int, place)
                            yield (number, side, client_number, cls), circuit


# What PyTorch makes of it


@torch.no_grad()
def logits(weights, images, keep):
    """keep: one vector of 0 and 1 a convolution, multiplied into its output before the ReLU."""
    x = images
    for layer, mask in zip(LAYERS, keep):
        x = F.conv2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], padding=1) * mask.view(1, -1, 1, 1)
        x = F.max_pool2d(F.relu(x), 2)
    return F.linear(x.flatten(1), weights["fc.weight"], weights["fc.bias"])


def masks(weights, nodes):
    """The circuit's channels and, as a second list, all others."""
    keep = [torch.zeros(len(weights[f"{layer}.bias"])) for layer in LAYERS]
    for mask, layer in zip(keep, LAYERS):
        mask[nodes[layer]] = 1
    return keep, [1 - mask for mask in keep]


def right(weights, images, keep, cls):
    """How many of the class's images the network answers rightly; how many of them are near ties that bear on it."""
    answers = logits(weights, images, keep)
    best = answers.topk(2).values
    near = (best[:, 0] - best[:, 1] <= NEAR) & (best[:, 0] - answers[:, cls] <= NEAR)
    return int((answers.argmax(1) == cls).sum()), int(near.sum())


def connectivity(weights, nodes):
    """Of each channel of the circuit, those of the layer before whose kernel is not all zero and that are in it too."""
    edges = {layer: {} for layer in [*LAYERS, "fc"]}
    for i, layer in enumerate(LAYERS):
        alive = weights[f"{layer}.weight"].abs().sum(dim=(2, 3)) > 0
        for dest in nodes[layer]:
            sources = alive[dest].nonzero().flatten().tolist()
            sources = [s for s in sources if i == 0 or s in nodes[LAYERS[i - 1]]]
            if sources:
                edges[layer][str(dest)] = sources
    return edges


class Tally:
    """Compared, near ties and differences of each quantity."""

    def __init__(self):
        self.compared, self.near, self.moved, self.wrong = Counter(), Counter(), Counter(), Counter()

    def same(self, what, where, got, want):
        self.compared[what] += 1
        if got != want:
            self.differs(what, where, got, want)

    def count(self, what, where, got, want, total, percent=False):
        """`got`: a share or percentage in the run folder. `want`: images and near ties."""
        hits, near = want
        self.compared[what] += 1
        self.near[what] += near
        images = float(got) * total / (100 if percent else 1)
        off = abs(images - hits)
        if not off <= 1e-6 and abs(images - round(images)) <= 1e-6 and off <= near + 1e-6:
            self.moved[what] += 1
        elif not off <= 1e-6:
            self.differs(what, where, f"{images:g} of {total}", f"{hits} of {total}")

    def differs(self, what, where, got, want):
        self.wrong[what] += 1
        if self.wrong[what] <= 5:
            print(f"{what} of {where}: the run has {got}, PyTorch {want}")

    def report(self):
        print(f"{'quantity':<34}{'compared':>9}{'near ties':>11}{'moved':>7}{'differ':>8}")
        for what in self.compared:
            columns = self.compared[what], self.near[what], self.moved[what], self.wrong[what]
            print(f"{what:<34}{columns[0]:>9}{columns[1]:>11}{columns[2]:>7}{columns[3]:>8}")


# What is compared


def check_accuracies(run, tally, images, labels):
    of_class = {cls: images[labels == cls] for cls in labels.unique().tolist()}
    for (number, side, client, cls), circuit in run.entries():
        where = f"round {number}, {side}, client {client}, class {cls}"
        row, own = run.rows[number, side, client, cls], run.network(number, client if side == "local" else None)
        nodes, metrics, shown = circuit["active_nodes"], circuit["metrics"], of_class.get(cls, images[:0])
        if not len(shown):
            tally.same("accuracies without test images", where, row["sufficiency"], "")
            continue
        (keep, rest), everything = masks(own, nodes), [torch.ones(len(own[f"{layer}.bias"])) for layer in LAYERS]
        wanted = [("sufficiency", "accuracy", keep), ("necessity", "necessity", rest), ("accuracy", None, everything)]
        if side == "global":
            local = run.circuits[f"round_{number}"][SIDES["local"]][f"client_{client}"]
            local = next(circuit for name, circuit in local.items() if int(name.split()[0]) == cls)
            wanted.append(("cross", "local_mask_on_global_weights_acc", masks(own, local["active_nodes"])[0]))
        for column, key, mask in wanted:
            want = right(own, shown, mask, cls)
            tally.count(f"{column}, circuits.csv", where, row[column], want, len(shown))
            if key:
                tally.count(f"{column}, circuits.json", where, metrics[key], want, len(shown), percent=True)


def check_structure(run, tally):
    tally.same("circuits in both files", "the run", {key for key, _ in run.entries()}, set(run.rows))
    for (number, side, client, cls), circuit in run.entries():
        where = f"round {number}, {side}, client {client}, class {cls}"
        own, nodes = run.network(number, client if side == "local" else None), circuit["active_nodes"]
        row = run.rows[number, side, client, cls]
        tally.same("sizes", where, [int(row[f"size_{layer}"]) for layer in LAYERS], [len(nodes[la]) for la in LAYERS])
        tally.same("connectivity", where, circuit["connectivity"], connectivity(own, nodes))


def check_overlaps(run, tally):
    sets = {key: members(circuit) for key, circuit in run.entries()}
    rounds = sorted({key[0] for key in sets})
    levels = ["node", "edge"] if run.experiment["circuits"]["edges"] == "channel" else ["node"]
    for row in run.table("overlap.csv"):
        if row["level"] not in levels:
            continue
        number, kind, layers = int(row["round"]), row["comparison"], LAYERS if row["layer"] == "all" else [row["layer"]]
        sides = {"local_global": ("local", "global"), "mismatched": ("local", "global")}
        side_a, side_b = sides.get(kind) or (kind.rsplit("_", 1)[1],) * 2
        before = rounds[rounds.index(number) - 1] if kind.startswith("stability") else number
        place = [(before, side_a, int(row["client_a"]), int(row["class_a"]))]
        place.append((number, side_b, int(row["client_b"]), int(row["class_b"])))
        a, b = ({m for layer in layers for m in sets[at][row["level"], layer]} for at in place)
        where = f"{kind}, {row['layer']}, {place[0]} and {place[1]}"
        sizes = [int(row["size_a"]), int(row["size_b"])]
        got = float(row["iou"]) if row["iou"] else ""
        tally.same(f"{row['level']} sizes, overlap.csv", where, sizes, [len(a), len(b)])
        tally.same(f"{row['level']} IoU, overlap.csv", where, got, iou(a, b))


def members(circuit):
    """What a circuit consists of, by level and layer."""
    found = {}
    for layer in LAYERS:
        found["node", layer] = {(layer, c) for c in circuit["active_nodes"][layer]}
        edges = circuit["connectivity"][layer].items()
        found["edge", layer] = {(layer, int(dest), source) for dest, sources in edges for source in sources}
    return found


def iou(a, b):
    """Shared over united; of two empty circuits, an empty cell."""
    return len(a & b) / len(a | b) if a | b else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="the run folder")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with MNIST's files")
    args = parser.parse_args()
    run, tally = Run(args.run), Tally()
    if not run.rows:
        refuse(f"{args.run} has no circuits yet")
    images, labels = test_images(args.data, run.experiment["data"].get("test_examples"))
    check_structure(run, tally)
    check_accuracies(run, tally, images, labels)
    check_overlaps(run, tally)
    tally.report()
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
