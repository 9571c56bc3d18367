"""Carries the state of torch's AdamW to this crate and back, in files of safetensors.

    python torch_state.py from-torch adamw.pt state.safetensors weight bias ...
    python torch_state.py to-torch state.safetensors adamw.pt

adamw.pt is what `torch.save(optimizer.state_dict(), "adamw.pt")` writes. Names are given in the order of the optimizer's
parameters, which is that of `model.named_parameters()` if it was made of `model.parameters()`. torch's first group becomes
the parameters in no group, the others `group1`, `group2`, ...; `to-torch` writes them in the same order.

Needs torch and safetensors. What is done without them, `describe` and `param_groups`, is used by tests/data/adamw_torch.py.
"""
import json
import sys

KEY = "ndarray-optim"
ARRAYS = ["exp_avg", "exp_avg_sq"]
FIELDS = ["lr", "betas", "eps", "weight_decay", "amsgrad", "maximize"]


def describe(groups, params, element):
    """The metadata of a file: torch's groups, with names in the place of numbers, and (name, shape, steps) of each parameter."""
    names = [None] + [f"group{i}" for i in range(1, len(groups))]
    group_of = {name: names[i] for i, group in enumerate(groups) for name in group["params"]}
    arrays = ARRAYS + (["max_exp_avg_sq"] if groups[0].get("amsgrad") else [])
    if any(bool(group.get("amsgrad")) != (len(arrays) == 3) for group in groups):
        raise ValueError("amsgrad in some groups only")

    def group_state(name, group):
        config = {"name": "adamw", **{field: group[field] for field in FIELDS if field in group}}
        members = [] if name is None else sorted(group["params"])
        return {"name": name, "config": config, "params": members, "frozen": False, "scalars": None, "steps": 0}

    def param_state(name, shape, steps):
        data = {"element": element, "shape": list(shape)}
        return {
            "name": name, "group": group_of[name], "shape": list(shape), "steps": int(steps), "scalars": [0.0] * 4,
            "allocated": True, "begun": True, "swapped": False, "order": list(range(len(shape))), "reversed": [],
            "arrays": [{"name": array, "data": data} for array in arrays], "factors": [],
        }

    state = {
        "version": 1, "element": element, "optimizer": "adamw", "non_finite": "propagate",
        "limits": {"norm": None, "skipped": None}, "skipped": 0,
        "groups": [group_state(*pair) for pair in zip(names, groups)],
        "params": [param_state(*param) for param in params], "rounds": [],
    }
    return {KEY: json.dumps(state)}


def param_groups(state):
    """torch's groups, with names in the place of numbers."""
    groups = []
    for group in state["groups"]:
        config = group["config"]
        if config["name"] != "adamw":
            raise ValueError(f"a group of {config['name']}, not adamw")
        unknown = [field for field, value in config.items() if value and field not in FIELDS + ["name"]]
        if unknown:
            raise ValueError(f"torch has no {unknown}")
        members = [param["name"] for param in state["params"] if param["group"] == group["name"]]
        groups.append({**{field: config[field] for field in FIELDS}, "params": members})
    return groups


def from_torch(source, target, names):
    import torch
    from safetensors.torch import save_file

    saved = torch.load(source, map_location="cpu", weights_only=True)
    states = {names[i]: state for i, state in saved["state"].items()}
    groups = [{**group, "params": [names[i] for i in group["params"]]} for group in saved["param_groups"]]
    elements = {torch.float32: "f32", torch.float64: "f64"}
    [element] = {elements[state["exp_avg"].dtype] for state in states.values()}
    params = [(name, state["exp_avg"].shape, int(state["step"])) for name, state in states.items()]
    arrays = [array for array in ARRAYS + ["max_exp_avg_sq"] if all(array in state for state in states.values())]
    tensors = {f"{name}.{array}": states[name][array].contiguous() for name in states for array in arrays}
    save_file(tensors, target, describe(groups, params, element))


def to_torch(source, target):
    import torch
    from safetensors import safe_open

    with safe_open(source, framework="pt") as file:
        state = json.loads(file.metadata()[KEY])
        groups = param_groups(state)
        number = {name: i for i, name in enumerate(name for group in groups for name in group["params"])}
        states = {}
        for param in state["params"]:
            name = param["name"]
            arrays = {array["name"]: file.get_tensor(f"{name}.{array['name']}") for array in param["arrays"]}
            if arrays:
                states[number[name]] = {"step": torch.tensor(float(param["steps"])), **arrays}
    for group in groups:
        extra = {"foreach": None, "capturable": False, "differentiable": False, "fused": None}
        group.update(extra, betas=tuple(group["betas"]), params=[number[name] for name in group["params"]])
    torch.save({"state": states, "param_groups": groups}, target)
    print("parameters in the order of their numbers:", *number)


if __name__ == "__main__":
    if len(sys.argv) >= 5 and sys.argv[1] == "from-torch":
        from_torch(sys.argv[2], sys.argv[3], sys.argv[4:])
    elif len(sys.argv) == 4 and sys.argv[1] == "to-torch":
        to_torch(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)
