"""A logistic regression of the breast cancer data by torch's AdamW, of which examples/continue_torch.rs makes some steps.

    python continue_torch.py begin run.pt     # makes 100 steps and saves
    python continue_torch.py end run.pt       # loads, makes 100 steps and compares with a run of 300 steps of torch alone
"""
import sys
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

LINES = (Path(__file__).parent / "data/breast_cancer.csv").read_text().splitlines()[1:]
TABLE = torch.tensor([[float(x) for x in line.split(",")] for line in LINES], dtype=torch.float64)
X, Y = TABLE[:, :-1], TABLE[:, -1:]
X = (X - X.mean(0)) / X.std(0, correction=0)


def new_run():
    model = torch.nn.Linear(X.shape[1], 1, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
    return model, torch.optim.AdamW(model.named_parameters(), lr=0.03, weight_decay=0.1, amsgrad=True)


def loss_of(model):
    return binary_cross_entropy_with_logits(model(X), Y) + 0.005 * model.weight.square().sum()


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def main(command, file):
    model, optimizer = new_run()
    if command == "begin":
        train(model, optimizer, 100)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        print(f"loss {loss_of(model).item():.12f} after 100 steps")
        return
    saved = torch.load(file, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    loaded = int(optimizer.state[model.weight]["step"])
    print(f"loss {loss_of(model).item():.12f} after {loaded} steps")
    train(model, optimizer, 100)
    print(f"loss {loss_of(model).item():.12f} after {loaded + 100} steps")
    alone, its_optimizer = new_run()
    train(alone, its_optimizer, loaded + 100)
    apart = max((p - q).abs().max().item() for p, q in zip(model.parameters(), alone.parameters()))
    print(f"loss {loss_of(alone).item():.12f} after {loaded + 100} steps of torch alone, parameters at most {apart:.1e} apart")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("begin", "end"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
