"""Reads a run of fedcircuit in Python: its tables with pandas, its model with PyTorch.

    fedcircuit run quickstart && fedcircuit data draw
    pip install pandas torch safetensors
    python read_run.py runs/quickstart-42/iid

For a run on MNIST, `--data DIR` names the folder that `fedcircuit data fetch mnist` made.
"""

import argparse
import gzip
import json
import math
import pathlib
import re
import sys
import tomllib

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import max_pool2d, relu

# Mean and standard deviation of a pixel, which fedcircuit normalises with.
NORMALISATION = {"mnist": (0.1307, 0.3081), "digits": (0.1095, 0.2662)}


class SimpleCnn(nn.Module):
    """The preset simple-cnn: three convolutions, each with ReLU and pooling, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.fc = nn.Linear(1152, 10)

    def forward(self, images):
        for conv in (self.conv1, self.conv2, self.conv3):
            images = max_pool2d(relu(conv(images)), 2)
        return self.fc(images.flatten(1))


def show_tables(run):
    """How the averaged model fares, and how far the clients' circuits are found in it."""
    metrics = pd.read_csv(run / "metrics.csv", index_col="round")
    print(metrics[["accuracy", "trained_accuracy", "loss"]], end="\n\n")
    if (run / "overlap.csv").exists():
        overlap = pd.read_csv(run / "overlap.csv")
        # Each client's circuit with the global one of the same class, as sets of channels; beside it, what chance gives.
        pairs = overlap[(overlap.comparison == "local_global") & (overlap.level == "node")]
        print(pairs.groupby(["round", "layer"])[["iou", "chance"]].mean().unstack().round(3), end="\n\n")
    return metrics


def load_model(run):
    """The global model of the last round whose weights were saved, and that round."""
    names = [re.fullmatch(r"round_(\d+)\.safetensors", path.name) for path in (run / "model").iterdir()]
    number, name = max((int(name[1]), name[0]) for name in names if name)
    model = SimpleCnn()
    model.load_state_dict(load_file(run / "model" / name))  # the names and shapes are PyTorch's own
    return model.eval(), number


def read_idx(folder, name, header):
    """An IDX file of bytes, packed or not; `header` is the bytes before them."""
    path = folder / name
    data = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
    return np.frombuffer(data, np.uint8, offset=header)


def test_set(data, source, limit):
    """The test images as the network sees them, and their labels."""
    folder = data / source if (data / source).is_dir() else data
    labels = torch.tensor(read_idx(folder, "t10k-labels-idx1-ubyte", 8)[:limit], dtype=torch.long)
    pixels = torch.tensor(read_idx(folder, "t10k-images-idx3-ubyte", 16), dtype=torch.float32)
    mean, std = NORMALISATION[source]
    return (pixels.reshape(-1, 1, 28, 28)[:limit] / 255 - mean) / std, labels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="the folder of one run, such as runs/quickstart-42/iid")
    parser.add_argument("--data", type=pathlib.Path, default="data", help="where the data sets are [default: data]")
    args = parser.parse_args()

    metrics = show_tables(args.run)
    model, number = load_model(args.run)
    settings = tomllib.loads((args.run / "experiment.toml").read_text())["data"]
    source = json.loads((args.run / "environment.json").read_text())["data"]["source"]  # which may be the fallback
    images, labels = test_set(args.data, source, settings.get("test_examples"))
    with torch.no_grad():
        right = (model(images).argmax(1) == labels).sum().item()

    accuracy, logged = right / len(labels), metrics.accuracy[number]
    print(f"round {number}: {accuracy:.4f} in PyTorch, {logged:.4f} in metrics.csv")
    # Another order of summation may change the answer to an image whose best two logits are all but equal.
    if not math.isclose(accuracy, logged, abs_tol=1.5 / len(labels)):
        sys.exit("which are not the same")


if __name__ == "__main__":
    main()
