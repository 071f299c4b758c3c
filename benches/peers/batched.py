"""PyTorch with the clients as an axis, by hand: one batched matrix product a layer for a whole wave of clients.

A convolution is its patches times the clients' filters (`baddbmm`). `--compile` puts the loss through torch.compile.

    python batched.py --data DIR --experiment WORKLOAD.toml [--wave 50] [--compile]
"""

import numpy as np
import torch
import torch.nn.functional as F

import workload as shared


def forward(layers, params, x):
    """Logits [K][10][B] of images [K][C][B][H][W]; params are [K][O][I] weights and [K][O] biases in turn."""
    k, batch = x.shape[0], x.shape[2]
    for i, (kind, outputs, *spec) in enumerate(layers):
        weight, bias = params[2 * i], params[2 * i + 1].unsqueeze(2)
        if kind == "conv":
            size, padding, pool = spec
            patches = F.pad(x, [padding] * 4).unfold(3, size, 1).unfold(4, size, 1)
            height, width = patches.shape[3:5]
            columns = patches.permute(0, 1, 5, 6, 2, 3, 4).reshape(k, -1, batch * height * width)
            x = torch.baddbmm(bias, weight, columns).view(k * outputs, batch, height, width)
            x = F.relu(x) if i + 1 < len(layers) else x
            x = (F.max_pool2d(x, pool) if pool > 1 else x).view(k, outputs, batch, height // pool, width // pool)
        else:
            if x.dim() == 5:
                x = x.permute(0, 1, 3, 4, 2).reshape(k, -1, batch)
            x = torch.baddbmm(bias, weight, x)
            x = F.relu(x) if i + 1 < len(layers) else x
    return x


def loss(layers, params, x, y):
    """The sum of the clients' mean losses: the gradient of each is its own."""
    return F.cross_entropy(forward(layers, params, x), y, reduction="none").mean(1).sum()


@torch.no_grad()
def prune(weights, sparsity, min_alive):
    """As in sequential.py, for every client at once: weights are [K][O][I], with or without a floor for each filter."""
    for w, is_conv in weights:
        size, n = w.abs(), w[0].numel()
        keep = max(1, int((1 - sparsity) * n))
        if keep == n:
            continue
        mask = size >= size.flatten(1).kthvalue(n - keep + 1, dim=1).values[:, None, None]
        if is_conv:
            poor = mask.sum(2, keepdim=True) < min_alive
            mask |= (size >= size.topk(min_alive, dim=2).values[..., -1:]) & poor
        w.mul_(mask)


class Batched:
    def __init__(self, workload, x, y, shares, wave, compiled, device):
        torch.manual_seed(workload.seed)
        if workload.circuits:
            raise SystemExit("no search for circuits here: see sequential.py")
        self.w, self.wave, self.device = workload, wave, device
        self.x, self.y, self.shares = (torch.from_numpy(a).to(device) for a in (x, y, shares))
        flat = [t for w, b in shared.initial(workload) for t in (w.reshape(w.shape[0], -1), b)]
        self.params = [torch.from_numpy(t).to(device) for t in flat]
        self.loss = torch.compile(loss) if compiled else loss

    def train(self, shares):
        """The wave's trained parameters, [K] first."""
        w, (k, n) = self.w, shares.shape
        params = [p.expand(k, *p.shape).clone().requires_grad_() for p in self.params]
        weights = [(p, layer[0] == "conv") for p, layer in zip(params[::2], w.layers)]
        kind = torch.optim.Adam if w.optimizer == "adam" else torch.optim.SGD
        optimizer = kind(params, lr=w.lr, fused=True)
        steps, t = w.epochs * -(-n // w.batch), 0
        for _ in range(w.epochs):
            order = shares.gather(1, torch.rand(k, n, device=self.device).argsort(1))
            for index in order.split(w.batch, dim=1):
                x = self.x[index].transpose(1, 2)
                optimizer.zero_grad()
                self.loss(w.layers, params, x, self.y[index]).backward()
                optimizer.step()
                if w.sparsity > 0:
                    prune(weights, shared.target_sparsity(w, t, steps), w.min_alive)
                t += 1
        if w.sparsity > 0:
            prune(weights, w.sparsity, w.min_alive)
        return [p.detach() for p in params]

    def round(self):
        sums = [torch.zeros_like(p) for p in self.params]
        for shares in self.shares.split(self.wave):
            for total, part in zip(sums, self.train(shares)):
                total += part.sum(0)
        self.params = [total / len(self.shares) for total in sums]
        shared.wait(torch, self.device)

    @torch.no_grad()
    def accuracy(self, x, y):
        params = [p[None] for p in self.params]
        parts = torch.from_numpy(x).to(self.device).split(500)
        found = [forward(self.w.layers, params, part.transpose(0, 1)[None])[0].argmax(0) for part in parts]
        return float(np.mean(torch.cat(found).cpu().numpy() == y))


def main():
    parser = shared.arguments(__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="as torch names it [default: cpu]")
    parser.add_argument("--wave", type=int, default=50, help="clients at once")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shared.equal_precision(torch)
    how = f"PyTorch {torch.__version__}, {args.wave} clients batched by hand" + ", compiled" * args.compile
    shared.run(args, how, lambda *a: Batched(*a, args.wave, args.compile, args.device))


if __name__ == "__main__":
    main()
