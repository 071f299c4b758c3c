"""Reference numbers from PyTorch for the Rust tests, written independently of the Rust code.

    python reference.py           write the .safetensors files beside this script
    python reference.py --check   recompute and compare with the committed files

Both print how far float32, which is what the files hold, parts from float64 in the cases that train. The inputs are
those of inputs.py.

A batch of B images is images 0 .. B-1 unless the case says otherwise. A tensor of n elements is stored whole if
n <= 20,000; else as its flat elements 0, s, 2s, ... with s = 7, or s = 331 if n > 200,000. "grad_stats.<name>" holds
[sum, L2 norm] of the whole gradient, added up in float64.
"""

import argparse
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file
from torch import nn

from inputs import batch, images_of_shape, labels, normalise, parameter, uniform

HERE = pathlib.Path(__file__).parent


class Net(nn.Module):
    """Convolutions (in, out, kernel, padding, pooled), each with ReLU, then fully connected layers, ReLU between."""

    def __init__(self, convs, widths):
        super().__init__()
        self.convs, self.pooled, self.fcs = [], [c[4] for c in convs], []
        for k, (inputs, outputs, kernel, padding, _) in enumerate(convs, 1):
            self.add_module(f"conv{k}", nn.Conv2d(inputs, outputs, kernel, padding=padding))
            self.convs.append(getattr(self, f"conv{k}"))
        for k, (inputs, outputs) in enumerate(zip(widths, widths[1:]), 1):
            name = "fc" if len(widths) == 2 else f"fc{k}"
            self.add_module(name, nn.Linear(inputs, outputs))
            self.fcs.append(getattr(self, name))
        self.initialise()

    @torch.no_grad()
    def initialise(self):
        for k, (name, p) in enumerate(self.named_parameters(), 1):
            weight = self.get_parameter(name.replace("bias", "weight"))
            p.copy_(parameter(k, p.shape, weight[0].numel()))

    def forward(self, x, gates=None, fill=None, before=None):
        """gates: one vector m a convolution, multiplied into its output z before the ReLU. fill: one tensor a
        convolution that broadcasts against z, for z m + fill (1 - m) instead. before: a list that takes every z."""
        for k, conv in enumerate(self.convs):
            x = conv(x)
            if before is not None:
                before.append(x)
            if gates is not None:
                m = gates[k].view(1, -1, 1, 1)
                x = x * m if fill is None else x * m + fill[k] * (1 - m)
            x = F.relu(x)
            if self.pooled[k]:
                x = F.max_pool2d(x, 2)
        x = x.flatten(1)
        for fc in self.fcs[:-1]:
            x = F.relu(fc(x))
        return self.fcs[-1](x)


def simple_cnn():
    return Net([(1, 32, 3, 1, True), (32, 64, 3, 1, True), (64, 128, 3, 1, True)], [1152, 10])


def cnn_mcmahan():
    return Net([(1, 32, 5, 2, True), (32, 64, 5, 2, True)], [3136, 512, 10])


def mlp_2nn():
    return Net([], [784, 200, 200, 10])


# Pruning, training, gates


def kept_count(sparsity, numel):
    return max(1, int((1 - sparsity) * numel))


def prune_mask(weight, sparsity, min_alive=4):
    """Keeps |w| >= the k-th largest; a filter left with fewer than min_alive also keeps |w| >= its own 4th largest."""
    size = weight.abs().flatten()
    mask = weight.abs() >= size.sort(descending=True).values[kept_count(sparsity, size.numel()) - 1]
    if weight.dim() == 4:
        for w, m in zip(weight.abs(), mask):
            if m.sum() < min_alive:
                m |= w >= w.flatten().sort(descending=True).values[min(min_alive, w.numel()) - 1]
    return mask


@torch.no_grad()
def prune(net, sparsity):
    """Prunes every weight tensor, never a bias; returns the masks by name."""
    masks = {n: prune_mask(p, sparsity) for n, p in net.named_parameters() if p.dim() > 1}
    for name, mask in masks.items():
        net.get_parameter(name).mul_(mask)
    return masks


def train_pruned(dtype, steps, sparsity, anneal=0.5):
    """The paper's local training: Adam, and after each step pruning on a ramp that ends half-way."""
    net = simple_cnn().to(dtype)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    ramp, losses, kept = int(anneal * steps), [], []
    for t in range(steps):
        x, y = batch(32 * t, 32, dtype)
        loss = F.cross_entropy(net(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        masks = prune(net, sparsity * (t / ramp) if t < ramp else sparsity)
        losses.append(loss.item())
        kept.append([int(m.sum()) for m in masks.values()])
    masks = prune(net, sparsity)
    kept.append([int(m.sum()) for m in masks.values()])
    return net, masks, losses, kept


def discover(net, cls, fill=None, steps=30, lr=0.1, l0=0.01):
    """One gate a channel, straight-through: forward 1[g > 0], backward the derivative of the sigmoid."""
    net.requires_grad_(False)
    dtype = net.fcs[0].weight.dtype
    widths = [c.out_channels for c in net.convs]
    gates = torch.full((sum(widths),), 2.0, dtype=dtype, requires_grad=True)
    adam, losses = torch.optim.Adam([gates], lr=lr), []
    for t in range(steps):
        x, y = batch(64 * t, 64, dtype)
        x, y = x[y == cls], y[y == cls]
        soft = gates.sigmoid()
        hard = (gates > 0).to(dtype) - soft.detach() + soft
        loss = F.cross_entropy(net(x, hard.split(widths), fill), y) + l0 * soft.sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return gates.detach(), losses


@torch.no_grad()
def confusion(net, mask, fill=None):
    """Images by class and answer; and how near the best two logits of an image are at the nearest."""
    x, y = batch(5000, 1000)
    logits = net(x, mask.float().split([c.out_channels for c in net.convs]), fill)
    best = logits.topk(2).values
    counts = torch.bincount(10 * y + logits.argmax(1), minlength=100).view(10, 10)
    return counts, (best[:, 0] - best[:, 1]).min().item()


# Cases: each returns what its file holds

PRUNED_RUNS = {"s995": (20, 0.995), "s90": (40, 0.9)}  # steps, sparsity


def array(values, dtype=np.float32):
    values = values.detach().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    return np.ascontiguousarray(values.astype(dtype))


def sample(tensor):
    flat = array(tensor).reshape(-1)
    stride = 1 if flat.size <= 20_000 else 7 if flat.size <= 200_000 else 331
    return np.ascontiguousarray(flat[::stride])


def gradients(prefix, net, x, y):
    logits = net(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    out = {f"{prefix}.logits": array(logits), f"{prefix}.loss": array([loss.item()])}
    for name, p in net.named_parameters():
        g = p.grad.double()
        out[f"{prefix}.grad.{name}"] = sample(p.grad)
        out[f"{prefix}.grad_stats.{name}"] = array([g.sum().item(), g.norm().item()])
    return out


def case_simple_cnn():
    return gradients("batch32", simple_cnn(), *batch(0, 32)) | gradients("batch19", simple_cnn(), *batch(0, 19))


def case_pruned_training():
    """Two runs, step t on images 32t .. 32t+31. "s995": 20 steps to sparsity .995 (the network dies on the way, its
    masks and weights stay a test); "s90": 40 steps to .9 (it learns).

    kept: survivors of each weight tensor after each step, then after the last pruning. index.<name>, value.<name>: the
    survivors in the end. loss_float64: the losses of the same run in float64.
    """
    out = {}
    for run, setting in PRUNED_RUNS.items():
        net, masks, losses, kept = train_pruned(torch.float32, *setting)
        double, masks_double, losses_double, _ = train_pruned(torch.float64, *setting)
        far = max((p - q).abs().max().item() for p, q in zip(net.parameters(), double.parameters()))
        flips = sum(int((masks[n] ^ masks_double[n]).sum()) for n in masks)
        print(f"  {run} in float64: largest difference {far:.1e} in a parameter, {flips} mask bits")
        out |= {f"{run}.loss": array(losses), f"{run}.loss_float64": array(losses_double)}
        out[f"{run}.kept"] = array(kept, np.int32)
        for name, p in net.named_parameters():
            if name in masks:
                index = masks[name].flatten().nonzero().flatten()
                out[f"{run}.index.{name}"] = array(index, np.int32)
                p = p.flatten()[index]
            out[f"{run}.value.{name}"] = array(p)
    return out


def case_gates():
    """Gates for class 3 of the network that "s90" left; step t sees the images of class 3 among 64t .. 64t+63.

    confusion.<kept>: how many of images 5000 .. 5999 of a class (row) get an answer (column) when only some channels
    stay. full: all; circuit: gate > 0 (sufficiency); without_circuit: the rest (necessity); some: place % 4 > 0.
    In without_circuit the best two logits (4 and 7) of one image are 6e-8 apart: it may change column.
    """
    net = train_pruned(torch.float32, *PRUNED_RUNS["s90"])[0]
    gates, losses = discover(net, 3)
    mask = gates > 0
    some = torch.arange(len(mask)) % 4 > 0
    kept = {"full": torch.ones_like(mask), "circuit": mask, "without_circuit": ~mask, "some": some}
    out = {"gates": array(gates), "mask": array(mask, np.int32), "loss": array(losses)}
    out |= {f"confusion.{name}": array(confusion(net, m)[0], np.int32) for name, m in kept.items()}
    double, _ = discover(net.double(), 3)
    far, flips = (gates - double).abs().max().item(), int((mask ^ (double > 0)).sum())
    print(f"  gates in float64: largest difference {far:.1e}, {flips} flipped")
    return out


MEANS_OF, DONOR = 512, 7  # filled_gates: the means are of images 0 .. 511; the donor is image 7


@torch.no_grad()
def fills(net):
    """What stands in for closed channels: their means over images and pixels, or what the donor gives."""
    dtype, over, donor = net.fcs[0].weight.dtype, [], []
    net(batch(0, MEANS_OF, dtype)[0], before=over)
    net(batch(DONOR, 1, dtype)[0], before=donor)
    return {"mean": [z.mean((0, 2, 3), keepdim=True) for z in over], "donor": donor}


def case_filled_gates():
    """As "gates", but a closed channel gives something else than zero before the ReLU. mean: mu, the channel's mean
    over images 0 .. 511 and all pixels, kept from float64. donor: what it gives for image 7, pixel by pixel.

    confusion.<kept>: as in "gates", with that fill.
    """
    net, double = (train_pruned(torch.float32, *PRUNED_RUNS["s90"])[0].to(t) for t in (torch.float32, torch.float64))
    out, exact_fills = {}, fills(double)
    for name, fill in fills(net).items():
        gates, losses = discover(net, 3, fill)
        mask = gates > 0
        some = torch.arange(len(mask)) % 4 > 0
        out |= {f"{name}.gates": array(gates), f"{name}.mask": array(mask, np.int32), f"{name}.loss": array(losses)}
        for kept, m in {"circuit": mask, "without_circuit": ~mask, "some": some}.items():
            counts, gap = confusion(net, m, fill)
            out[f"{name}.confusion.{kept}"] = array(counts, np.int32)
            print(f"  {name}, {kept}: best two logits at least {gap:.1e} apart")
        exact, _ = discover(double, 3, exact_fills[name])
        far, flips = (gates - exact).abs().max().item(), int((mask ^ (exact > 0)).sum())
        nearest = exact.abs().min().item()
        print(f"  {name} in float64: largest difference {far:.1e}, {flips} flipped, nearest to zero {nearest:.1e}")
    return out | {"mean.mu": array(torch.cat([mu.flatten() for mu in exact_fills["mean"]]))}


def case_odd_cnns():
    """Channel counts that divide nothing, both kernels, every padding, a layer without pool. colour: images_of_shape."""
    grey = Net([(1, 6, 5, 2, True), (6, 5, 3, 0, False), (5, 7, 3, 1, True)], [252, 16, 10])
    colour = Net([(3, 6, 5, 0, True), (6, 5, 3, 0, False), (5, 7, 3, 1, True)], [63, 16, 10])
    x, y = normalise(images_of_shape(13, 3, 20, 20)), torch.from_numpy(labels(np.arange(13)))
    return gradients("grey", grey, *batch(0, 13)) | gradients("colour", colour, x, y)


def case_mlp_2nn():
    """Batch 32; and 5 steps of SGD (lr .05, momentum .9, weight decay 1e-3), step t on images 32t .. 32t+31."""
    out, net, losses = gradients("batch32", mlp_2nn(), *batch(0, 32)), mlp_2nn(), []
    sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    for t in range(5):
        x, y = batch(32 * t, 32)
        loss = F.cross_entropy(net(x), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    return out | {"sgd.loss": array(losses)} | {f"sgd.value.{n}": sample(p) for n, p in net.named_parameters()}


def case_cnn_mcmahan():
    return gradients("batch8", cnn_mcmahan(), *batch(0, 8))


def case_prune():
    """Values (floor(41 uniform(i, 201)) - 20) / 64, so that ties abound. mask_<sparsity>: 1 is a survivor.

    conv: filters 1 and 4 are divided by 32, below any threshold; filter 5 is all zero, and so kept whole.
    zeros: elements with i % 4 > 0 are 0, so that the threshold is 0 until sparsity passes .75.
    """

    def ties(*shape):
        values = (np.floor(41 * uniform(np.arange(np.prod(shape)), 201)) - 20) / 64
        return torch.from_numpy(values).float().view(shape)

    inputs = {"conv": ties(8, 5, 3, 3), "conv_1x1": ties(5, 3, 1, 1), "linear": ties(10, 21), "zeros": ties(10, 20)}
    inputs["conv"][[1, 4]] /= 32
    inputs["conv"][5] = 0
    inputs["zeros"].view(-1)[np.arange(200) % 4 > 0] = 0
    levels = {"00": 0.0, "50": 0.5, "90": 0.9, "995": 0.995}
    out = {}
    for name, w in inputs.items():
        out[f"{name}.input"] = array(w)
        out |= {f"{name}.mask_{k}": array(prune_mask(w, s), np.int32) for k, s in levels.items()}
    return out


CASES = [case_simple_cnn, case_pruned_training, case_gates, case_filled_gates]
CASES += [case_odd_cnns, case_mlp_2nn, case_cnn_mcmahan, case_prune]


def check(name, new):
    old = load_file(HERE / f"{name}.safetensors")
    assert old.keys() == new.keys(), f"{name}: other tensors than the committed ones: {old.keys() ^ new.keys()}"
    worst, where = max((float(np.abs(old[k].astype(float) - new[k]).max(initial=0)), k) for k in new)
    print(f"{name}: largest difference {worst:.1e} in {where}")
    assert worst < 1e-4, f"{name} differs from the committed file"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing them")
    args = parser.parse_args()
    torch.set_num_threads(1)  # one order of summation
    for case in CASES:
        name, tensors = case.__name__.removeprefix("case_"), case()
        if args.check:
            check(name, tensors)
        else:
            save_file(tensors, HERE / f"{name}.safetensors")
            print(f"{name}: {len(tensors)} tensors, {sum(t.nbytes for t in tensors.values()):,} bytes")
