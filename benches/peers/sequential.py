"""The paper's local training in plain PyTorch, as fast as one process trains one client: fedcircuit's yardstick.

The images are one normalised float tensor in memory and a batch is one indexing of it: no data loader, no transforms.

    python sequential.py --data DIR                     one epoch over 60,000 images, dense
    python sequential.py --data DIR --sparsity 0.995    the same, pruning after every step

DIR holds MNIST's train-images-idx3-ubyte and train-labels-idx1-ubyte, gzipped. Needs torch and numpy. Prints JSON.
"""

import argparse
import gzip
import json
import pathlib
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def read_idx(path):
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape).copy())


def load(folder, count):
    x = read_idx(folder / "train-images-idx3-ubyte.gz")[:count].float()
    return ((x / 255 - 0.1307) / 0.3081)[:, None], read_idx(folder / "train-labels-idx1-ubyte.gz")[:count].long()


class SimpleCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.fc = nn.Linear(1152, 10)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.fc(x.flatten(1))


@torch.no_grad()
def prune(weights, sparsity, min_alive=4):
    """Keeps the largest weights of every tensor, and at least min_alive in every convolution filter."""
    for w in weights:
        size = w.abs()
        keep = max(1, int((1 - sparsity) * w.numel()))
        if keep == w.numel():
            continue
        mask = size >= size.flatten().kthvalue(w.numel() - keep + 1).values
        if w.dim() == 4:
            filters = size.flatten(1)
            poor = mask.flatten(1).sum(1) < min_alive
            own = filters.topk(min_alive, dim=1).values[:, -1:]
            mask |= ((filters >= own) & poor[:, None]).view_as(mask)
        w.mul_(mask)


def train(x, y, batch, epochs, sparsity, anneal=0.5):
    """Local training from a fresh network; returns the loss of the last batch."""
    torch.manual_seed(0)
    net = SimpleCnn()
    weights = [p for p in net.parameters() if p.dim() > 1]
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    steps = epochs * -(-len(x) // batch)
    ramp, t = int(anneal * steps), 0
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(batch):
            adam.zero_grad()
            loss = F.cross_entropy(net(x[index]), y[index])
            loss.backward()
            adam.step()
            if sparsity > 0:
                prune(weights, sparsity * (t / ramp) if t < ramp else sparsity)
            t += 1
    if sparsity > 0:
        prune(weights, sparsity)
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped MNIST files")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.0, help="target of pruning after every step; 0: dense")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=3, help="timed runs, after a warm-up on at most 20 batches")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    x, y = load(args.data, args.images)
    train(x[: 20 * args.batch], y[: 20 * args.batch], args.batch, 1, args.sparsity)
    seconds = []
    for _ in range(args.runs):
        start = time.perf_counter()
        loss = train(x, y, args.batch, args.epochs, args.sparsity)
        seconds.append(time.perf_counter() - start)

    median = statistics.median(seconds)
    result = {"seconds": round(median, 3), "fastest": round(min(seconds), 3), "runs": [round(s, 3) for s in seconds]}
    result |= {"images_per_second": round(len(x) * args.epochs / median), "images": len(x), "epochs": args.epochs}
    result |= {"batch": args.batch, "sparsity": args.sparsity, "threads": args.threads, "last_loss": round(loss, 4)}
    print(json.dumps(result | {"torch": torch.__version__}, indent=2))


if __name__ == "__main__":
    main()
