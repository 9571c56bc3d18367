"""Carries a run of torch to this crate and back, in files of safetensors: AdamW, Adam, SGD, RMSprop or Adagrad.

    python torch_state.py from-torch adamw run.pt state.safetensors [NAME ...]
    python torch_state.py to-torch state.safetensors run.pt [NAME ...]

run.pt is what `torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "run.pt")` writes. An optimizer
made of `model.named_parameters()` knows the names of its parameters; for one made of `model.parameters()`, give them in the
same order, that of `model.named_parameters()`. torch's first group becomes the parameters in no group, the others `group1`,
`group2`, ... `to-torch` numbers the parameters of each group in the order in which the state has them, or in that of the names
given. Carried are the parameters that the optimizer has; not buffers, learning-rate schedulers, or flags such as `fused`.
"""
import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file

KEY = "ndarray-optim"
ELEMENTS = {torch.float32: "f32", torch.float64: "f64"}
# Hyper-parameters and arrays, which have the same names on both sides, and which hyper-parameter an array depends on.
OPTIMIZERS = {
    "adamw": (
        ["lr", "betas", "eps", "weight_decay", "amsgrad", "maximize"],
        {"exp_avg": None, "exp_avg_sq": None, "max_exp_avg_sq": "amsgrad"},
    ),
    "sgd": (
        ["lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"],
        {"momentum_buffer": "momentum"},
    ),
    "rmsprop": (
        ["lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize"],
        {"square_avg": None, "grad_avg": "centered", "momentum_buffer": "momentum"},
    ),
    "adagrad": (
        ["lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value", "maximize"],
        {"sum": None},
    ),
}
OPTIMIZERS["adam"] = OPTIMIZERS["adamw"]


def plain(value):
    """A hyper-parameter as JSON has it. Learning rates may be tensors."""
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return value if isinstance(value, bool) else float(value)


def from_torch(optimizer, saved, names):
    """Tensors and metadata of the file."""
    fields, all_arrays = OPTIMIZERS[optimizer]
    if not {"model", "optimizer"} <= saved.keys():
        raise ValueError(f"a dictionary of `model` and `optimizer` was expected, not of {[*saved]}")
    model, states, groups = saved["model"], saved["optimizer"]["state"], saved["optimizer"]["param_groups"]
    names = names or [name for group in groups for name in group.get("param_names", [])]
    numbers = [number for group in groups for number in group["params"]]
    if len(set(names)) != len(numbers) or len(names) != len(numbers):
        raise ValueError(f"{len(numbers)} parameters need as many names, not {names}")
    name_of = dict(zip(numbers, names))
    tensors, group_states, param_states = {}, [], []
    for i, group in enumerate(groups):
        missing = [field for field in fields if field not in group]
        if missing or group.get("decoupled_weight_decay", optimizer == "adamw") != (optimizer == "adamw"):
            raise ValueError(f"group {i} is not one of {optimizer}: {group}")
        group_name = f"group{i}" if i > 0 else None
        group_states.append({
            "name": group_name, "params": sorted(name_of[number] for number in group["params"]) if i > 0 else [],
            "optimizer": optimizer, "algorithm": {"name": optimizer, **{field: plain(group[field]) for field in fields}},
            "frozen": False, "scalars": None, "steps": 0,
        })
        arrays = [array for array, condition in all_arrays.items() if condition is None or group[condition]]
        for number in group["params"]:
            name = name_of[number]
            state = {key: value for key, value in states.get(number, {}).items() if value is not None}
            if name not in model:
                raise ValueError(f"the model has no `{name}`, but {[*model]}")
            shape = list(model[name].shape)
            described = []
            for array in arrays if state else []:
                if array not in state or list(state[array].shape) != shape:
                    raise ValueError(f"`{name}` is of shape {shape} and has no `{array}` of that shape: a wrong order of names?")
                tensors[f"{name}.{array}"] = state[array]
                described.append({"name": array, "data": {"shape": shape}})
            begun = bool(described)
            # SGD does not count; that it has begun is all that matters to it.
            steps = int(state.get("step", 1)) if begun else 0
            tensors[name] = model[name]
            param_states.append({
                "name": name, "group": group_name, "shape": shape, "steps": steps, "scalars": [0.0] * 4,
                "allocated": begun, "begun": begun, "swapped": False, "order": list(range(len(shape))), "reversed": [],
                "arrays": described, "factors": [],
            })
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1 or not dtypes <= set(ELEMENTS):
        raise ValueError(f"all tensors must be float32 or all float64, not {[*dtypes]}")
    element = ELEMENTS[dtypes.pop()]
    for array in (array for param in param_states for array in param["arrays"]):
        array["data"]["element"] = element
    state = {
        "version": 1, "element": element, "non_finite": "propagate",
        "limits": {"norm": None, "skipped": None}, "clip": None, "skipped": 0,
        "groups": group_states, "params": param_states, "accumulation": None,
    }
    tensors = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    return tensors, {KEY: json.dumps(state), "torch": str(torch.__version__)}


def selected(select, tensors, arrays):
    """The parameters in the file whose names begin with a prefix, or which have so many axes."""
    names = [name for name in tensors if name not in arrays]
    if "prefix" in select:
        return [name for name in names if name.startswith(select["prefix"])]
    return [name for name in names if tensors[name].dim() == select["rank"]]


def to_torch(tensors, state, names):
    """What `torch.save` is to write."""
    if state["accumulation"] or state["clip"] or any(group["frozen"] for group in state["groups"]):
        raise ValueError("torch's optimizers accumulate and clip no gradients and have no frozen groups")
    params = {param["name"]: param for param in state["params"]}
    arrays = {f"{name}.{array['name']}" for name, param in params.items() for array in param["arrays"]}
    group_of = {
        name: group["name"]
        for group in state["groups"]
        for name in (group["params"] if isinstance(group["params"], list) else selected(group["params"], tensors, arrays))
    }
    group_of.update({name: param["group"] for name, param in params.items()})  # they may have been moved
    names = names or list(params)
    left = (set(params) | set(group_of)) - set(names)
    if left:
        raise ValueError(f"give all names, in the order of torch's parameters: {sorted(left)} have no place in {names}")
    model, states, groups, kinds, number = dict(tensors), {}, [], set(), 0
    for group in state["groups"]:
        members = [name for name in names if group_of.get(name) == group["name"]]
        if group["name"] is None and not members and group_of:
            continue  # all are in groups
        optimizer, config = group["optimizer"], dict(group["algorithm"] or {})
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"`{optimizer}` has no counterpart here")
        kinds.add(optimizer)
        if len(kinds) > 1:
            raise ValueError(f"torch has one optimizer for all groups, not {sorted(kinds)}")
        fields, _ = OPTIMIZERS[config.pop("name")]
        unknown = [field for field, value in config.items() if value and field not in fields]
        if unknown:
            raise ValueError(f"torch's {optimizer} has no {unknown}")
        first = number
        for number, name in enumerate(members, first):
            param = params.get(name, {"steps": 0, "begun": False, "arrays": []})
            arrays = {array["name"]: model.pop(f"{name}.{array['name']}") for array in param["arrays"]}
            if optimizer == "adagrad" and not param["begun"]:
                # torch has this from the beginning.
                arrays = {"sum": torch.full_like(tensors[name], config["initial_accumulator_value"])}
            elif not param["begun"] or not arrays:
                continue
            step = {} if optimizer == "sgd" else {"step": torch.tensor(float(param["steps"]))}
            states[number] = {**step, **arrays}
        number = first + len(members)
        config = {field: tuple(value) if field == "betas" else value for field, value in config.items() if field in fields}
        flags = {"foreach": None, "fused": None}
        if optimizer in ("adam", "adamw"):
            flags["decoupled_weight_decay"] = optimizer == "adamw"  # what tells torch's own from each other
        groups.append({**config, **flags, "params": list(range(first, number)), "param_names": members})
    return {"model": model, "optimizer": {"state": states, "param_groups": groups}}


def main(args):
    if len(args) >= 4 and args[0] == "from-torch" and args[1] in OPTIMIZERS:
        saved = torch.load(args[2], map_location="cpu", weights_only=True)
        tensors, metadata = from_torch(args[1], saved, args[4:])
        save_file(tensors, args[3], metadata)
    elif len(args) >= 3 and args[0] == "to-torch":
        with safe_open(args[1], framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            state = json.loads(file.metadata()[KEY])
        torch.save(to_torch(tensors, state, args[3:]), args[2])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
