"""Steps of torch's and optax's optimizers for the program `peers`, which talks to this one in lines.

    python worker.py torch|optax one|all

    prepare ID VARIANT ALGORITHM DTYPE LAYOUT SHAPES  ->  ok
    steps ID N                                        ->  ok SECONDS
    probe ID                                          ->  ok NUMBERS
    drop ID                                           ->  ok

The first line of the answers is `ok VERSION`. A command that fails is answered with the reason,
`no REASON`. Steps follow one another on a pipe, so that another program can take turns.
"""

import gc
import os
import sys
import time

# The same numbers as in `src/case.rs`.
LR, WEIGHT_DECAY, EPS = 1e-3, 1e-2, 1e-8
BETA1, BETA2, MOMENTUM, ALPHA = 0.9, 0.999, 0.9, 0.99


def values(count, factor, period, offset):
    """Numbers that are exact in f32."""
    pattern = (np.arange(period) * factor % period) / 256 - offset
    return np.resize(pattern, count)


def arrays(dtype, shapes):
    """Parameters and gradients, as in `src/case.rs`."""
    for i, shape in enumerate(shapes):
        count = int(np.prod(shape))
        p = values(count + i, 37, 251, 0.5)[i:].astype(dtype).reshape(shape)
        g = values(count + i, 73, 241, 0.45)[i:].astype(dtype).reshape(shape)
        yield p, g


def ends(first, last):
    return [float(x) for x in (*first.reshape(-1)[:4], *last.reshape(-1)[-4:])]


class Torch:
    """Steps of `torch.optim`, or of the operator alone that its fused optimizers call."""

    def __init__(self, variant, algorithm, dtype, layout, shapes):
        torch.set_num_threads(THREADS)
        self.params = []
        for p, g in arrays(dtype, shapes):
            place_g = "f" if layout == "mixed" else layout
            p, g = self.place(p, "c" if layout == "mixed" else layout), self.place(g, place_g)
            p.requires_grad_(True)
            p.grad = g
            self.params.append(p)
        if variant == "operator":
            self.step = self.operator(algorithm)
        else:
            kinds = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
            self.step = self.optimizer(algorithm, kinds[variant]).step

    @staticmethod
    def place(values, layout):
        values = torch.from_numpy(values)
        if layout == "c":
            return values
        if layout == "f":
            return values.t().contiguous().t()
        rows, columns = values.shape
        wide = torch.zeros(rows, 2 * columns, dtype=values.dtype)
        wide[:, ::2] = values
        return wide[:, ::2]

    def optimizer(self, algorithm, kind):
        params = self.params
        if algorithm == "adamw":
            return torch.optim.AdamW(
                params, lr=LR, betas=(BETA1, BETA2), eps=EPS, weight_decay=WEIGHT_DECAY, **kind
            )
        if algorithm == "momentum":
            return torch.optim.SGD(params, lr=LR, momentum=MOMENTUM, **kind)
        if kind.get("fused"):
            raise ValueError("torch has no fused RMSprop")
        return torch.optim.RMSprop(params, lr=LR, alpha=ALPHA, eps=EPS, **kind)

    def operator(self, algorithm):
        params = [p.detach() for p in self.params]
        grads = [p.grad for p in self.params]
        like = lambda: [torch.zeros_like(p) for p in params]
        first, second = like(), like()
        if algorithm == "adamw":
            counts = [torch.tensor(0.0) for _ in params]

            def step():
                torch._foreach_add_(counts, 1)
                torch._fused_adamw_(
                    params, grads, first, second, [], counts,
                    amsgrad=False, lr=LR, beta1=BETA1, beta2=BETA2,
                    weight_decay=WEIGHT_DECAY, eps=EPS, maximize=False,
                )  # fmt: skip

            return step
        if algorithm == "momentum":

            def step():
                torch._fused_sgd_(
                    params, grads, first, weight_decay=0.0, momentum=MOMENTUM, lr=LR,
                    dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
                )  # fmt: skip

            return step
        raise ValueError("torch has no fused RMSprop")

    def steps(self, count):
        torch.set_num_threads(THREADS)
        step = self.step
        start = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - start

    def probe(self):
        return ends(self.params[0].detach(), self.params[-1].detach())


class Optax:
    """Steps of optax, compiled, in place of the old parameters and state."""

    def __init__(self, variant, algorithm, dtype, layout, shapes):
        if layout != "c":
            raise ValueError("arrays of jax have no memory layout")
        if algorithm == "adamw":
            rule = optax.adamw(LR, BETA1, BETA2, EPS, weight_decay=WEIGHT_DECAY)
        elif algorithm == "momentum":
            rule = optax.sgd(LR, MOMENTUM)
        else:
            rule = optax.rmsprop(LR, ALPHA, EPS, initial_scale=0.0, eps_in_sqrt=False)
        self.params, self.grads = [], []
        for p, g in arrays(dtype, shapes):
            # Copies: donated memory has to be jax's own.
            self.params.append(jnp.array(p, copy=True))
            self.grads.append(jnp.array(g, copy=True))
        self.state = rule.init(self.params)

        def step(params, state, grads):
            updates, state = rule.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        self.step = jax.jit(step, donate_argnums=(0, 1))

    def steps(self, count):
        step, params, state, grads = self.step, self.params, self.state, self.grads
        start = time.perf_counter()
        for _ in range(count):
            params, state = step(params, state, grads)
        jax.block_until_ready((params, state))
        seconds = time.perf_counter() - start
        self.params, self.state = params, state
        return seconds

    def probe(self):
        return ends(np.asarray(self.params[0]), np.asarray(self.params[-1]))


def answer(text):
    print(text.replace("\n", " "), file=CHANNEL, flush=True)


LIBRARY, CORES = sys.argv[1:]
THREADS = 1 if CORES == "one" else len(os.sched_getaffinity(0))
# What libraries print must not end up among the answers.
CHANNEL = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
if CORES == "one":
    # The pool of jax has one thread for each core that the process may use when it starts.
    os.environ["NPROC"] = "1"
    os.environ["PJRT_NPROC"] = "1"
try:
    import numpy as np

    if LIBRARY == "torch":
        import torch

        version, make = f"torch {torch.__version__}", Torch
    else:
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["JAX_ENABLE_X64"] = "1"
        import jax
        import optax
        from jax import numpy as jnp

        version, make = f"optax {optax.__version__}, jax {jax.__version__}", Optax
except ImportError as error:
    answer(f"no {error}")
    sys.exit()
gc.disable()
answer(f"ok {version}")

prepared = {}
for line in sys.stdin:
    command, name, *rest = line.split()
    try:
        if command == "prepare":
            variant, algorithm, dtype, layout, shapes = rest
            dtype = {"f32": np.float32, "f64": np.float64}[dtype]
            shapes = [tuple(map(int, shape.split("x"))) for shape in shapes.split(",")]
            prepared[name] = make(variant, algorithm, dtype, layout, shapes)
            answer("ok")
        elif command == "steps":
            answer(f"ok {prepared[name].steps(int(rest[0]))}")
        elif command == "probe":
            answer("ok " + " ".join(map(repr, prepared[name].probe())))
        else:
            del prepared[name]
            gc.collect()
            answer("ok")
    except Exception as error:
        answer(f"no {error}")
