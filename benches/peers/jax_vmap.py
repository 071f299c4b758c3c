"""JAX: a client's training is a scan over its steps, `vmap` makes it that of many clients, `jit` compiles the round.

`--wave N` maps over N clients at once and loops over the rest; with `--wave 1` there is no vmap, only the loop, and
convolutions are XLA's own.

    python jax_vmap.py --data DIR --experiment WORKLOAD.toml [--wave 50]
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import workload as shared


def convolve(x, weight, padding, patches):
    """As one matrix product with patches, or as XLA's own convolution, which vmap turns into a slow grouped one."""
    x = jnp.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    if not patches:
        return lax.conv(x, weight, (1, 1), "VALID")
    size = weight.shape[2]
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    taps = [x[:, :, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    columns = jnp.stack(taps, 2).reshape(len(x), -1, height * width)
    return jnp.einsum("oi,bip->bop", weight.reshape(len(weight), -1), columns).reshape(len(x), -1, height, width)


def forward(layers, patches, params, x):
    for i, ((kind, *spec), (weight, bias)) in enumerate(zip(layers, params)):
        if kind == "conv":
            _, _, padding, pool = spec
            x = convolve(x, weight, padding, patches) + bias[:, None, None]
            x = jax.nn.relu(x) if i + 1 < len(layers) else x
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, pool, pool), (1, 1, pool, pool), "VALID")
        else:
            x = x.reshape(len(x), -1) @ weight.T + bias
            x = jax.nn.relu(x) if i + 1 < len(layers) else x
    return x


def loss(layers, patches, params, x, y, real):
    """The mean over the images that exist: the last batch may be padded."""
    losses = -jnp.take_along_axis(jax.nn.log_softmax(forward(layers, patches, params, x)), y[:, None], 1)[:, 0]
    return jnp.sum(losses * real) / jnp.sum(real)


def prune(params, keeps, min_alive):
    """As in sequential.py; `keeps` is how many weights each tensor keeps, known only when it runs."""
    def one(weight, keep):
        size = jnp.abs(weight)
        mask = size >= jnp.sort(size.ravel())[weight.size - keep]
        if weight.ndim == 4:
            filters = size.reshape(len(size), -1)
            poor = mask.reshape(filters.shape).sum(1, keepdims=True) < min_alive
            own = lax.top_k(filters, min_alive)[0][:, -1:]
            mask |= ((filters >= own) & poor).reshape(mask.shape)
        return weight * mask
    return [(one(w, keeps[i]), b) for i, (w, b) in enumerate(params)]


def train(workload, patches, x, y, params, order, real, keeps):
    """One client: `order` [steps][B] of images, `real` [steps][B], `keeps` [steps + 1][layers]. Its trained parameters."""
    gradient = jax.grad(partial(loss, workload.layers, patches))
    adam, lr = workload.optimizer == "adam", workload.lr
    zero = jax.tree.map(jnp.zeros_like, params)

    def step(state, given):
        params, first, second, t = state
        index, mask, keep = given
        grads = gradient(params, x[index], y[index], mask)
        if adam:
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
            second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
            rate, root = lr / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
            move = lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8)
            params = jax.tree.map(move, params, first, second)
        else:
            params = jax.tree.map(lambda p, g: p - lr * g, params, grads)
        if workload.sparsity > 0:
            params = prune(params, keep, workload.min_alive)
        return (params, first, second, t + 1), None

    (params, *_), _ = lax.scan(step, (params, zero, zero, jnp.float32(1)), (order, real, keeps[:-1]))
    return prune(params, keeps[-1], workload.min_alive) if workload.sparsity > 0 else params


class Vmapped:
    def __init__(self, workload, x, y, shares, wave):
        if workload.circuits:
            raise SystemExit("no search for circuits here: see sequential.py")
        self.w, self.shares, self.rng = workload, shares, np.random.default_rng(workload.seed)
        self.params = [tuple(map(jnp.asarray, layer)) for layer in shared.initial(workload)]
        n = shares.shape[1]
        self.steps, self.padded = -(-n // workload.batch), -(-n // workload.batch) * workload.batch
        real = np.tile(np.arange(self.padded) < n, workload.epochs).reshape(-1, workload.batch).astype(np.float32)
        total = workload.epochs * self.steps
        sizes = [int(np.prod(s)) for s in shared.shapes(workload)]
        target = lambda t: shared.target_sparsity(workload, t, total)
        keeps = np.array([[max(1, int((1 - target(t)) * size)) for size in sizes] for t in range(total + 1)])
        x, y, real, keeps = map(jnp.asarray, (x, y, real, keeps))

        @jax.jit
        def all_clients(x, y, params, orders):
            client = lambda order: train(workload, wave > 1, x, y, params, order, real, keeps)
            trained = lax.map(client, orders, batch_size=wave if wave > 1 else None)
            return jax.tree.map(lambda p: p.mean(0), trained)

        self.all_clients = lambda orders: all_clients(x, y, self.params, orders)

    def round(self):
        epochs = []
        for _ in range(self.w.epochs):
            order = self.rng.permuted(self.shares, axis=1)
            epochs.append(np.pad(order, ((0, 0), (0, self.padded - order.shape[1]))))
        orders = np.concatenate(epochs, 1).reshape(len(self.shares), -1, self.w.batch)
        self.params = jax.block_until_ready(self.all_clients(jnp.asarray(orders)))

    def accuracy(self, x, y):
        logits = jax.jit(partial(forward, self.w.layers, False))
        found = [np.asarray(logits(self.params, part)).argmax(1) for part in np.split(x, 20)]
        return float(np.mean(np.concatenate(found) == y))


def main():
    parser = shared.arguments(__doc__.splitlines()[0])
    parser.add_argument("--wave", type=int, default=50, help="clients that vmap makes one")
    args = parser.parse_args()
    # Of the factors: on a GPU the default is TF32.
    jax.config.update("jax_default_matmul_precision", "highest")
    how = f"JAX {jax.__version__}, " + (f"vmap over {args.wave} clients" if args.wave > 1 else "a loop over clients")
    shared.run(args, how, lambda *a: Vmapped(*a, args.wave))


if __name__ == "__main__":
    main()
