"""torch's part of tests/suite/torch.rs, with examples/torch_state.py: runs of cases.json, in both element types, to and from
files in FOLDER. The files beside this one are kept from such a run, with torch's version in the metadata:
`WRITE_TORCH=1 PYTHON=... cargo test --test suite torch_itself` writes them anew.

    python run.py begin FOLDER    # *.torch: after 10 steps; *.torch_end: after 40
    python run.py end FOLDER      # compares *.back, which is *.torch carried there and back; *.here_end: 30 steps after *.here
"""
import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE / "../../../examples"))
import torch_state  # noqa: E402

CASES = json.loads((HERE / "cases.json").read_text())
NUMBERS = json.loads((HERE / "../../golden/adamw.json").read_text())[0]
BEFORE, STEPS = 10, 40
# A parameter without gradients before this step.
LATE, FROM = "kernel", 13
CLASSES = {
    "adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad,
}


def optimizer_of(case):
    return case["groups"][0]["name"]


def new_run(case, dtype):
    """Parameters by name, and their optimizer: with names in float64, without names and with a tensor as lr in float32."""
    params = {}
    for param in NUMBERS["params"]:
        values = torch.tensor(param["values"], dtype=dtype).reshape(param["shape"])
        params[param["name"]] = torch.nn.Parameter(values)
    named, groups = dtype == torch.float64, []
    for group in case["groups"]:
        group = {key: tuple(value) if key == "betas" else value for key, value in group.items() if key != "name"}
        if not named:
            group["lr"] = torch.tensor(group["lr"])
        members = [(name, params[name]) if named else params[name] for name in group["params"]]
        groups.append({**group, "params": members})
    return params, CLASSES[optimizer_of(case)](groups)


def names_of(case, dtype):
    """The names that the script needs to be told."""
    return [] if dtype == torch.float64 else [name for group in case["groups"] for name in group["params"]]


def advance(params, optimizer, steps):
    for step in steps:
        for param, values in zip(NUMBERS["params"], NUMBERS["grads"][(step - 1) % len(NUMBERS["grads"])]):
            p = params[param["name"]]
            late = param["name"] == LATE and step < FROM
            p.grad = None if late else torch.tensor(values, dtype=p.dtype).reshape(p.shape)
        optimizer.step()


def save(case, dtype, params, optimizer, path, suffix):
    model = {name: param.detach() for name, param in params.items()}
    torch.save({"model": model, "optimizer": optimizer.state_dict()}, f"{path}.{suffix}.pt")
    args = [f"{path}.{suffix}.pt", f"{path}.{suffix}.safetensors", *names_of(case, dtype)]
    torch_state.main(["from-torch", optimizer_of(case), *args])


def load(case, dtype, path, suffix):
    torch_state.main(["to-torch", f"{path}.{suffix}.safetensors", f"{path}.{suffix}.pt", *names_of(case, dtype)])
    saved = torch.load(f"{path}.{suffix}.pt", weights_only=True)
    params, optimizer = new_run(case, dtype)
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(saved["model"][name])
    optimizer.load_state_dict(saved["optimizer"])
    return params, optimizer


def begin(case, dtype, path):
    params, optimizer = new_run(case, dtype)
    advance(params, optimizer, range(1, BEFORE + 1))
    save(case, dtype, params, optimizer, path, "torch")
    advance(params, optimizer, range(BEFORE + 1, STEPS + 1))
    save(case, dtype, params, optimizer, path, "torch_end")


def equal(a, b):
    """The same numbers in the same places; what only `b` has does not count."""
    if isinstance(a, dict):
        return all(key in b and equal(value, b[key]) for key, value in a.items())
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def end(case, dtype, path):
    original = torch.load(f"{path}.torch.pt", weights_only=True)
    params, optimizer = load(case, dtype, path, "back")
    model = {name: param.detach() for name, param in params.items()}
    back = {"model": model, "optimizer": optimizer.state_dict()}
    assert equal(original, back), f"{path}: there and back\n{original}\n{back}"
    assert equal(back["optimizer"]["state"], original["optimizer"]["state"]), f"{path}: more than there was\n{back}"

    params, optimizer = load(case, dtype, path, "here")
    advance(params, optimizer, range(BEFORE + 1, STEPS + 1))
    save(case, dtype, params, optimizer, path, "here_end")


def refusals():
    """What cannot be carried is an error with a reason."""
    def saved(dtype=torch.float32, cls=torch.optim.AdamW):
        params = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in ([2], [3])]
        optimizer = cls(params, lr=0.1)
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        return {"model": {"a": params[0].detach(), "b": params[1].detach()}, "optimizer": optimizer.state_dict()}

    def refused(words, function, *args):
        try:
            function(*args)
        except ValueError as error:
            assert words in str(error), error
        else:
            raise AssertionError(f"not refused: {words}")

    def state(**changes):
        tensors, metadata = torch_state.from_torch("adamw", saved(), ["a", "b"])
        return tensors, {**json.loads(metadata[torch_state.KEY]), **changes}

    from_torch, to_torch, names = torch_state.from_torch, torch_state.to_torch, ["a", "b"]
    refused("bfloat16", from_torch, "adamw", saved(torch.bfloat16), names)
    refused("is not one of adamw", from_torch, "adamw", saved(cls=torch.optim.Adam), names)
    refused("is not one of adam", from_torch, "adam", saved(), names)
    refused("is not one of sgd", from_torch, "sgd", saved(), names)
    refused("a wrong order of names", from_torch, "adamw", saved(), ["b", "a"])
    refused("need as many names", from_torch, "adamw", saved(), [])
    refused("`model` and `optimizer`", from_torch, "adamw", saved()["optimizer"], names)
    refused("the model has no `c`", from_torch, "adamw", saved(), ["a", "c"])
    mixed = saved()
    mixed["model"]["a"] = mixed["model"]["a"].double()
    refused("float64", from_torch, "adamw", mixed, names)
    refused("['b'] have no place", to_torch, *state(), ["a"])
    [group] = state()[1]["groups"]
    refused("unfinished rounds", to_torch, *state(groups=[{**group, "frozen": True}]), [])
    refused("no counterpart", to_torch, *state(groups=[{**group, "config": {"name": "lamb"}}]), [])
    corrected = {**group["config"], "amsgrad_corrected": True}
    refused("has no ['amsgrad_corrected']", to_torch, *state(groups=[{**group, "config": corrected}]), [])


if __name__ == "__main__":
    command, folder = sys.argv[1:]
    for case in CASES:
        for element, dtype in [("f64", torch.float64), ("f32", torch.float32)]:
            {"begin": begin, "end": end}[command](case, dtype, f"{folder}/{case['id']}.{element}")
    if command == "end":
        refusals()
    print("torch", torch.__version__)
