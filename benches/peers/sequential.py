"""Plain PyTorch, one client after another, as the arXiv paper's code works: fedcircuit's yardstick.

The images are one normalised float tensor in memory and a batch is one indexing of it: no data loader, no transforms.

    python sequential.py --data DIR                               one client, one epoch over 60,000 images, dense
    python sequential.py --data DIR --experiment WORKLOAD.toml    a federation: see benches/workloads

DIR holds MNIST's gzipped IDX files. Needs torch and numpy. Prints JSON.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import workload as shared


class Net(nn.Module):
    """ReLU after every layer but the last; `gates`, if any, multiply the convolutions' channels before it."""

    def __init__(self, workload):
        super().__init__()
        self.layers, self.specs = nn.ModuleList(), workload.layers
        for (kind, *spec), (w, b), shape in zip(workload.layers, shared.initial(workload), shared.shapes(workload)):
            layer = nn.Conv2d(shape[1], shape[0], spec[1], padding=spec[2]) if kind == "conv" else nn.Linear(*shape[::-1])
            layer.weight.data, layer.bias.data = torch.from_numpy(w), torch.from_numpy(b)
            self.layers.append(layer)

    def forward(self, x, gates=None):
        for i, (layer, (kind, *spec)) in enumerate(zip(self.layers, self.specs)):
            x = layer(x if kind == "conv" else x.flatten(1))
            if gates is not None and kind == "conv":
                x = x * gates[i][:, None, None]
            if i + 1 < len(self.layers):
                x = F.relu(x)
            if kind == "conv" and spec[3] > 1:
                x = F.max_pool2d(x, spec[3])
        return x


@torch.no_grad()
def prune(weights, sparsity, min_alive):
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


class Sequential:
    def __init__(self, workload, x, y, shares, device):
        torch.manual_seed(workload.seed)
        self.w, self.device = workload, device
        self.x, self.y, self.shares = (torch.from_numpy(a).to(device) for a in (x, y, shares))
        self.net = Net(workload).to(device)

    def train(self, share):
        w, net = self.w, copy.deepcopy(self.net)
        weights = [p for p in net.parameters() if p.dim() > 1]
        kind = torch.optim.Adam if w.optimizer == "adam" else torch.optim.SGD
        optimizer = kind(net.parameters(), lr=w.lr, fused=True)
        steps, t = w.epochs * -(-len(share) // w.batch), 0
        for _ in range(w.epochs):
            for part in torch.randperm(len(share), device=self.device).split(w.batch):
                index = share[part]
                optimizer.zero_grad()
                F.cross_entropy(net(self.x[index]), self.y[index]).backward()
                optimizer.step()
                if w.sparsity > 0:
                    prune(weights, shared.target_sparsity(w, t, steps), w.min_alive)
                t += 1
        if w.sparsity > 0:
            prune(weights, w.sparsity, w.min_alive)
        return net

    def round(self):
        locals_ = [self.train(share) for share in self.shares]
        if self.w.circuits:
            self.search_all(locals_)
        states = [net.state_dict() for net in locals_]
        self.net.load_state_dict({key: torch.stack([s[key] for s in states]).mean(0) for key in states[0]})
        if self.w.circuits:
            self.search_all([self.net] * len(locals_))
        shared.wait(torch, self.device)

    def search_all(self, nets):
        return [self.search(n, s, c) for n, s in zip(nets, self.shares) for c in self.w.circuits["classes"]]

    def search(self, net, share, target):
        """Gates of one class: straight-through step function, Adam, cross-entropy and a penalty on open gates."""
        c = self.w.circuits
        net = copy.deepcopy(net).requires_grad_(False)
        convs = [layer for layer in net.layers if isinstance(layer, nn.Conv2d)]
        logits = [torch.full((conv.out_channels,), 2.0, device=self.device, requires_grad=True) for conv in convs]
        adam = torch.optim.Adam(logits, lr=c["lr"])
        for _ in range(c["steps"]):
            for part in share[torch.randperm(len(share), device=self.device)].split(self.w.batch):
                index = part[self.y[part] == target]
                if len(index):
                    break
            adam.zero_grad()
            soft = [torch.sigmoid(g) for g in logits]
            gates = [(g > 0).float() + s - s.detach() for g, s in zip(logits, soft)]
            loss = F.cross_entropy(net(self.x[index], gates), self.y[index])
            (loss + c["l0"] * sum(s.sum() for s in soft)).backward()
            adam.step()
        return [torch.nonzero(g > 0).flatten() for g in logits]

    @torch.no_grad()
    def accuracy(self, x, y):
        found = [self.net(part).argmax(1) for part in torch.from_numpy(x).to(self.device).split(500)]
        return float(np.mean(torch.cat(found).cpu().numpy() == y))


def main():
    parser = shared.arguments(__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="as torch names it [default: cpu]")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shared.equal_precision(torch)
    shared.run(args, f"PyTorch {torch.__version__}, one client after another", lambda *a: Sequential(*a, args.device))


if __name__ == "__main__":
    main()
