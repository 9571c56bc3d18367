"""Writes adamw_1_torch.safetensors and adamw_2_torch.safetensors: states of torch's AdamW after 10 steps of two golden
trajectories, with the parameters, computed here in plain floats by torch's formulas. Only the standard library is needed.

    python3 tests/data/adamw_torch.py
"""
import json
import math
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "../../examples"))
from torch_state import describe  # noqa: E402

STEPS = 10


def write(path, tensors, metadata):
    """A file of safetensors: the length of the header, the header, the bytes."""
    header, data = {"__metadata__": metadata}, b""
    for name, (shape, values) in sorted(tensors.items()):
        raw = struct.pack(f"<{len(values)}d", *values)
        header[name] = {"dtype": "F64", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    for case in json.loads((HERE / "../golden/adamw.json").read_text())[1:3]:
        config = {"amsgrad": False, "maximize": False, **case["optimizer"]}
        (beta1, beta2), lr, eps, decay = config["betas"], config["lr"], config["eps"], config["weight_decay"]
        tensors, params = {}, []
        for k, param in enumerate(case["params"]):
            p = list(param["values"])
            m, v, largest = ([0.0] * len(p) for _ in range(3))
            for t in range(1, STEPS + 1):
                for i, g in enumerate(case["grads"][(t - 1) % len(case["grads"])][k]):
                    p[i] *= 1 - lr * decay
                    m[i] += (1 - beta1) * (g - m[i])
                    v[i] = beta2 * v[i] + (1 - beta2) * g * g
                    largest[i] = max(largest[i], v[i])
                    root = math.sqrt(largest[i] if config["amsgrad"] else v[i]) / math.sqrt(1 - beta2**t) + eps
                    p[i] -= lr / (1 - beta1**t) * m[i] / root
            name, shape = param["name"], param["shape"]
            tensors |= {name: (shape, p), f"{name}.exp_avg": (shape, m), f"{name}.exp_avg_sq": (shape, v)}
            if config["amsgrad"]:
                tensors[f"{name}.max_exp_avg_sq"] = (shape, largest)
            params.append((name, shape, STEPS))
        groups = [{**config, "params": [name for name, *_ in params]}]
        write(HERE / f"{case['id'].replace('-', '_')}_torch.safetensors", tensors, describe(groups, params, "f64"))


main()
