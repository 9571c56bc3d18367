"""Writes dialects.json: the forms of one optimizer name in torch, optax, keras and the papers. Plain Python, no packages.

    python3 tests/golden/dialects.py

Cases of two kinds, told apart by `reference`: numbers measured from a package, copied here digit by digit (MEASURED), and
formulas written out below in the words of the package or paper they are from, in Python floats (WRITTEN).
"""
import json
import math
import os
import random

STEPS = [1, 2, 3, 5, 10, 30]
SHAPES = [("weight", [3, 2]), ("bias", [2]), ("gain", []), ("kernel", [2, 1, 2])]
MATRICES = [("high", [4, 2]), ("wide", [2, 3]), ("square", [2, 2])]


def sign(x):
    return (x > 0) - (x < 0)


# --- keras 3: one variable element w, gradient g, slots s; iterations count from 0, so t = iterations + 1 -----------------
def keras_sgd(w, g, s, t, learning_rate, momentum=0.0, nesterov=False):
    if momentum == 0.0:
        return w - learning_rate * g
    s["m"] = momentum * s.get("m", 0.0) - learning_rate * g
    return w + momentum * s["m"] - learning_rate * g if nesterov else w + s["m"]


def keras_rmsprop(w, g, s, t, learning_rate, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False):
    s["v"] = rho * s.get("v", 0.0) + (1 - rho) * g**2
    denominator = s["v"] + epsilon
    if centered:
        s["a"] = rho * s.get("a", 0.0) + (1 - rho) * g
        denominator = s["v"] - s["a"] ** 2 + epsilon
    increment = learning_rate * g / math.sqrt(denominator)
    if momentum == 0.0:
        return w - increment
    s["m"] = momentum * s.get("m", 0.0) + increment
    return w - s["m"]


def keras_adam(w, g, s, t, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, weight_decay=0.0):
    w = w - w * weight_decay * learning_rate  # what every keras optimizer does with weight_decay, before its own step
    alpha = learning_rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    m, v = s.get("m", 0.0), s.get("v", 0.0)
    s["m"] = m + (g - m) * (1 - beta_1)
    s["v"] = v = v + (g**2 - v) * (1 - beta_2)
    if amsgrad:
        s["v_hat"] = v = max(s.get("v_hat", 0.0), v)
    return w - s["m"] * alpha / (math.sqrt(v) + epsilon)


def keras_adagrad(w, g, s, t, learning_rate, initial_accumulator_value=0.1, epsilon=1e-7):
    s["accumulator"] = s.get("accumulator", initial_accumulator_value) + g**2
    return w - learning_rate * g / math.sqrt(s["accumulator"] + epsilon)


def keras_adadelta(w, g, s, t, learning_rate, rho=0.95, epsilon=1e-7):
    def rms(x):
        return math.sqrt(x + epsilon)

    s["g"] = rho * s.get("g", 0.0) + (1 - rho) * g**2
    delta = -rms(s.get("d", 0.0)) * g / rms(s["g"])
    s["d"] = rho * s.get("d", 0.0) + (1 - rho) * delta**2
    return w + learning_rate * delta


def keras_adamax(w, g, s, t, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    m = s.get("m", 0.0)
    s["m"] = m + (g - m) * (1 - beta_1)
    s["u"] = max(beta_2 * s.get("u", 0.0), abs(g))
    return w - learning_rate * s["m"] / ((1 - beta_1**t) * (s["u"] + epsilon))


def keras_nadam(w, g, s, t, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=0.0):
    w = w - w * weight_decay * learning_rate
    u_t, u_t_1 = (beta_1 * (1 - 0.5 * 0.96**i) for i in (t, t + 1))
    s["product"] = s.get("product", 1.0) * u_t
    m, v = s.get("m", 0.0), s.get("v", 0.0)
    s["m"], s["v"] = m + (g - m) * (1 - beta_1), v + (g**2 - v) * (1 - beta_2)
    m_hat = u_t_1 * s["m"] / (1 - s["product"] * u_t_1) + (1 - u_t) * g / (1 - s["product"])
    v_hat = s["v"] / (1 - beta_2**t)
    return w - m_hat * learning_rate / (math.sqrt(v_hat) + epsilon)


def keras_lion(w, g, s, t, learning_rate, beta_1=0.9, beta_2=0.99):
    m = s.get("m", 0.0)
    s["m"] = m * beta_2 + g * (1 - beta_2)
    return w - learning_rate * sign(m * beta_1 + g * (1 - beta_1))


def keras_ftrl(w, g, s, t, learning_rate, initial_accumulator_value=0.1, l1=0.0, l2=0.0, beta=0.0):
    n = s.get("n", initial_accumulator_value)
    s["n"] = n + g**2
    s["z"] = s.get("z", 0.0) + g - (math.sqrt(s["n"]) - math.sqrt(n)) / learning_rate * w
    quadratic = math.sqrt(s["n"]) / learning_rate + 2 * (l2 + beta / (2 * learning_rate))
    return (min(max(s["z"], -l1), l1) - s["z"]) / quadratic


def keras_lamb(array, grads, slots, t, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    updates = []
    for g, s in zip(grads, slots):
        m, v = s.get("m", 0.0), s.get("v", 0.0)
        s["m"], s["v"] = m + (g - m) * (1 - beta_1), v + (g**2 - v) * (1 - beta_2)
        updates.append(s["m"] / (1 - beta_1**t) / (math.sqrt(s["v"] / (1 - beta_2**t)) + epsilon))
    w_norm, g_norm = (math.sqrt(math.fsum(x**2 for x in xs)) for xs in (array, updates))
    ratio = w_norm / g_norm if w_norm > 0 and g_norm > 0 else 1.0
    return [w - ratio * learning_rate * u for w, u in zip(array, updates)]


# --- optax: what is added to the parameter ---------------------------------------------------------------------------------
def optax_moments(g, s, b1, b2):
    s["mu"] = (1 - b1) * g + b1 * s.get("mu", 0.0)
    s["nu"] = (1 - b2) * g * g + b2 * s.get("nu", 0.0)
    return s["mu"], s["nu"]


def optax_sgd(p, g, s, t, learning_rate, momentum=0.0, nesterov=False):
    s["trace"] = g + momentum * s.get("trace", 0.0)
    return p - learning_rate * (g + momentum * s["trace"] if nesterov else s["trace"])


def optax_adagrad(p, g, s, t, learning_rate, initial_accumulator_value=0.1, eps=1e-7):
    s["sum"] = g * g + s.get("sum", initial_accumulator_value)
    return p - learning_rate * (g / math.sqrt(s["sum"] + eps) if s["sum"] > 0 else 0.0)


def optax_amsgrad(p, g, s, t, learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0):
    mu, nu = optax_moments(g, s, b1, b2)
    s["nu_max"] = max(s.get("nu_max", 0.0), nu / (1 - b2**t))
    return p - learning_rate * (mu / (1 - b1**t) / (math.sqrt(s["nu_max"]) + eps) + weight_decay * p)


def optax_adamw(p, g, s, t, learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4):
    mu, nu = optax_moments(g, s, b1, b2)
    return p - learning_rate * (mu / (1 - b1**t) / (math.sqrt(nu / (1 - b2**t)) + eps) + weight_decay * p)


def optax_adamax(p, g, s, t, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    s["mu"] = (1 - b1) * g + b1 * s.get("mu", 0.0)
    s["nu"] = max(abs(g) + eps, b2 * s.get("nu", 0.0))
    return p - learning_rate * (s["mu"] / (1 - b1**t) / s["nu"])


def optax_adadelta(p, g, s, t, learning_rate, rho=0.9, eps=1e-6):
    s["e_g"] = (1 - rho) * g * g + rho * s.get("e_g", 0.0)
    u = math.sqrt(s.get("e_x", 0.0) + eps) / math.sqrt(s["e_g"] + eps) * g
    s["e_x"] = (1 - rho) * u * u + rho * s.get("e_x", 0.0)
    return p - learning_rate * u


def optax_nadam(p, g, s, t, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    mu, nu = optax_moments(g, s, b1, b2)
    mu_hat = b1 * mu / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    return p - learning_rate * mu_hat / (math.sqrt(nu / (1 - b2**t)) + eps)


def optax_radam(p, g, s, t, learning_rate, b1=0.9, b2=0.999, eps=1e-8, threshold=5.0):
    mu, nu = optax_moments(g, s, b1, b2)
    ro_inf = 2 / (1 - b2) - 1
    ro = ro_inf - 2 * t * b2**t / (1 - b2**t)
    u = mu / (1 - b1**t)
    if ro >= threshold:
        r = math.sqrt((ro - 4) * (ro - 2) * ro_inf / ((ro_inf - 4) * (ro_inf - 2) * ro))
        u = r * u / (math.sqrt(nu / (1 - b2**t)) + eps)
    return p - learning_rate * u


def optax_lion(p, g, s, t, learning_rate, b1=0.9, b2=0.99, weight_decay=1e-3):
    mu = s.get("mu", 0.0)
    s["mu"] = (1 - b2) * g + b2 * mu
    return p - learning_rate * (sign((1 - b1) * g + b1 * mu) + weight_decay * p)


# --- papers, with their letters -------------------------------------------------------------------------------------------
def paper_adam(theta, g, s, t, alpha=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    return theta - alpha * (s["m"] / (1 - beta1**t)) / (math.sqrt(s["v"] / (1 - beta2**t)) + eps)


def paper_adamw(theta, g, s, t, lam, eta=1.0, alpha=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """eta is the schedule's multiplier: of alpha and of the decay lam alike."""
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    m_hat, v_hat = s["m"] / (1 - beta1**t), s["v"] / (1 - beta2**t)
    return theta - eta * (alpha * m_hat / (math.sqrt(v_hat) + eps) + lam * theta)


def paper_adamax(theta, g, s, t, alpha=2e-3, beta1=0.9, beta2=0.999):
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["u"] = max(beta2 * s.get("u", 0.0), abs(g))
    return theta - alpha / (1 - beta1**t) * s["m"] / s["u"]


def paper_radam(theta, g, s, t, alpha, beta1=0.9, beta2=0.999):
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    m_hat = s["m"] / (1 - beta1**t)
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 4:
        return theta - alpha * m_hat
    length = math.sqrt((1 - beta2**t) / s["v"])
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return theta - alpha * r * m_hat * length


def paper_adadelta(x, g, s, t, rho=0.95, eps=1e-6):
    s["g2"] = rho * s.get("g2", 0.0) + (1 - rho) * g**2
    dx = -math.sqrt(s.get("dx2", 0.0) + eps) / math.sqrt(s["g2"] + eps) * g
    s["dx2"] = rho * s.get("dx2", 0.0) + (1 - rho) * dx**2
    return x + dx


def paper_adan(theta, g, s, t, eta, beta1=0.02, beta2=0.08, beta3=0.01, eps=1e-8, lam=0.0):
    """The betas are the shares of what is new. Averages start at 0 and are corrected for that, as in the authors' code."""
    d = g - s.get("g", g)
    s["g"] = g
    s["m"] = (1 - beta1) * s.get("m", 0.0) + beta1 * g
    s["v"] = (1 - beta2) * s.get("v", 0.0) + beta2 * d
    s["n"] = (1 - beta3) * s.get("n", 0.0) + beta3 * (g + (1 - beta2) * d) ** 2
    m, v, n = (s[k] / (1 - (1 - beta) ** t) for k, beta in (("m", beta1), ("v", beta2), ("n", beta3)))
    return (theta - eta / (math.sqrt(n) + eps) * (m + (1 - beta2) * v)) / (1 + lam * eta)


def paper_yogi(x, g, s, t, eta, beta1=0.9, beta2=0.999, eps=1e-3):
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    v = s.get("v", 0.0)
    s["v"] = v - (1 - beta2) * sign(v - g**2) * g**2
    return x - eta * s["m"] / (math.sqrt(s["v"]) + eps)


# --- WRITTEN: id, where the formula is from, keys of the crate, the formula, its arguments, gradients, learning rates ------
LRS = [0.02, 0.05, 0.01]
# --- torch: Muon, matrix by matrix, products in the order of the indices ---------------------------------------------------
def torch_muon(array, grads, slots, t, lr, shape, momentum=0.95, weight_decay=0.1, nesterov=True, adjust_lr_fn=None):
    def product(a, b):
        return [[math.fsum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]

    a, b, c = 3.4445, -4.775, 2.0315
    for g, s in zip(grads, slots):
        s["buf"] = s.get("buf", 0.0) + (g - s.get("buf", 0.0)) * (1 - momentum)
    flat = [g + (s["buf"] - g) * momentum if nesterov else s["buf"] for g, s in zip(grads, slots)]
    rows, columns = shape
    x = [flat[i * columns:(i + 1) * columns] for i in range(rows)]
    if rows > columns:
        x = [list(column) for column in zip(*x)]
    norm = max(math.sqrt(math.fsum(v * v for row in x for v in row)), 1e-7)
    x = [[v / norm for v in row] for row in x]
    for _ in range(5):
        gram = product(x, [list(column) for column in zip(*x)])
        squared = product(gram, gram)
        update = [[b * g + c * s for g, s in zip(*rows)] for rows in zip(gram, squared)]
        x = [[a * v + w for v, w in zip(*rows)] for rows in zip(x, product(update, x))]
    if rows > columns:
        x = [list(column) for column in zip(*x)]
    if adjust_lr_fn == "match_rms_adamw":
        ratio = 0.2 * math.sqrt(max(rows, columns))
    else:
        ratio = math.sqrt(max(1, rows / columns))
    update = [v for row in x for v in row]
    return [p * (1 - lr * weight_decay) - lr * ratio * u for p, u in zip(array, update)]


WRITTEN = [
    ("sgd-keras", "keras.optimizers.SGD", {"lr": 0.01, "lr_in_buffer": True}, keras_sgd, {"learning_rate": 0.01}, {}),
    ("sgd-keras-momentum", "keras.optimizers.SGD, a learning rate that changes",
     {"lr": 0.02, "lr_in_buffer": True, "momentum": 0.9}, keras_sgd, {"momentum": 0.9}, {"lrs": LRS}),
    ("sgd-keras-nesterov", "keras.optimizers.SGD, a learning rate that changes",
     {"lr": 0.02, "lr_in_buffer": True, "momentum": 0.9, "nesterov": True}, keras_sgd,
     {"momentum": 0.9, "nesterov": True}, {"lrs": LRS}),
    ("rmsprop-keras", "keras.optimizers.RMSprop", {"lr": 1e-3, "alpha": 0.9, "eps": 1e-7, "eps_inside_sqrt": True},
     keras_rmsprop, {"learning_rate": 1e-3}, {}),
    ("rmsprop-keras-momentum", "keras.optimizers.RMSprop, a learning rate that changes",
     {"lr": 0.02, "alpha": 0.9, "eps": 1e-7, "eps_inside_sqrt": True, "centered": True, "momentum": 0.8},
     keras_rmsprop, {"momentum": 0.8, "centered": True}, {"lrs": [0.002, 0.005, 0.001]}),
    ("adam-keras", "keras.optimizers.Adam", {"lr": 1e-3, "eps": 1e-7, "eps_uncorrected": True},
     keras_adam, {"learning_rate": 1e-3}, {}),
    ("adam-keras-amsgrad", "keras.optimizers.Adam",
     {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-7, "eps_uncorrected": True, "amsgrad": True},
     keras_adam, {"learning_rate": 0.01, "amsgrad": True}, {"decay": 0.8}),
    ("adamw-keras", "keras.optimizers.AdamW",
     {"lr": 1e-3, "eps": 1e-7, "eps_uncorrected": True, "weight_decay": 4e-3},
     keras_adam, {"learning_rate": 1e-3, "weight_decay": 4e-3}, {}),
    ("adamw-keras-amsgrad", "keras.optimizers.AdamW",
     {"lr": 0.01, "eps": 1e-7, "eps_uncorrected": True, "weight_decay": 4e-3, "amsgrad": True},
     keras_adam, {"learning_rate": 0.01, "weight_decay": 4e-3, "amsgrad": True}, {"decay": 0.8}),
    ("adagrad-keras", "keras.optimizers.Adagrad",
     {"lr": 1e-3, "initial_accumulator_value": 0.1, "eps": 1e-7, "eps_inside_sqrt": True},
     keras_adagrad, {"learning_rate": 1e-3}, {}),
    ("adadelta-keras", "keras.optimizers.Adadelta", {"lr": 1e-3, "rho": 0.95, "eps": 1e-7},
     keras_adadelta, {"learning_rate": 1e-3}, {}),
    ("adamax-keras", "keras.optimizers.Adamax", {"lr": 1e-3, "eps": 1e-7, "eps_outside_max": True},
     keras_adamax, {"learning_rate": 1e-3}, {}),
    ("nadam-keras", "keras.optimizers.Nadam",
     {"lr": 1e-3, "eps": 1e-7, "momentum_decay": 1.0, "decoupled_weight_decay": True},
     keras_nadam, {"learning_rate": 1e-3}, {}),
    ("nadam-keras-decay", "keras.optimizers.Nadam",
     {"lr": 0.01, "eps": 1e-7, "momentum_decay": 1.0, "decoupled_weight_decay": True, "weight_decay": 0.1},
     keras_nadam, {"learning_rate": 0.01, "weight_decay": 0.1}, {}),
    ("lion-keras", "keras.optimizers.Lion", {"lr": 1e-3}, keras_lion, {"learning_rate": 1e-3}, {}),
    ("lamb-keras", "keras.optimizers.Lamb", {"lr": 1e-3, "eps": 1e-7}, keras_lamb, {"learning_rate": 1e-3}, {}),
    ("ftrl-keras", "keras.optimizers.Ftrl", {"lr": 1e-3, "initial_accumulator_value": 0.1},
     keras_ftrl, {"learning_rate": 1e-3}, {}),
    ("ftrl-keras-penalties", "keras.optimizers.Ftrl: lambda_2 is twice l2_regularization_strength",
     {"lr": 0.05, "initial_accumulator_value": 0.1, "beta": 0.3, "lambda_1": 0.02, "lambda_2": 0.2},
     keras_ftrl, {"learning_rate": 0.05, "beta": 0.3, "l1": 0.02, "l2": 0.1}, {}),
    ("sgd-optax", "optax.sgd", {"lr": 1e-3}, optax_sgd, {"learning_rate": 1e-3}, {}),
    ("sgd-optax-momentum", "optax.sgd, a learning rate that changes", {"lr": 0.02, "momentum": 0.9},
     optax_sgd, {"momentum": 0.9}, {"lrs": LRS}),
    ("sgd-optax-nesterov", "optax.sgd, a learning rate that changes", {"lr": 0.02, "momentum": 0.9, "nesterov": True},
     optax_sgd, {"momentum": 0.9, "nesterov": True}, {"lrs": LRS}),
    ("adagrad-optax", "optax.adagrad",
     {"lr": 0.01, "initial_accumulator_value": 0.1, "eps": 1e-7, "eps_inside_sqrt": True},
     optax_adagrad, {"learning_rate": 0.01}, {}),
    ("adadelta-optax", "optax.adadelta", {"lr": 1.0}, optax_adadelta, {"learning_rate": 1.0}, {}),
    ("adamax-optax", "optax.adamax", {"lr": 2e-3}, optax_adamax, {"learning_rate": 2e-3}, {}),
    ("adam-optax", "optax.adam", {"lr": 1e-3, "amsgrad_corrected": True},
     optax_adamw, {"learning_rate": 1e-3, "weight_decay": 0.0}, {}),
    ("adam-optax-amsgrad", "optax.amsgrad", {"lr": 1e-3, "amsgrad": True, "amsgrad_corrected": True},
     optax_amsgrad, {"learning_rate": 1e-3}, {"decay": 0.8}),
    ("adamw-optax", "optax.adamw", {"lr": 1e-3, "weight_decay": 1e-4, "amsgrad_corrected": True},
     optax_adamw, {"learning_rate": 1e-3}, {}),
    ("adamw-optax-amsgrad", "optax.chain(scale_by_amsgrad, add_decayed_weights, scale_by_learning_rate)",
     {"lr": 0.01, "weight_decay": 1e-4, "amsgrad": True, "amsgrad_corrected": True},
     optax_amsgrad, {"learning_rate": 0.01, "weight_decay": 1e-4}, {"decay": 0.8}),
    ("nadam-optax", "optax.nadam", {"lr": 2e-3, "momentum_decay": 1000.0}, optax_nadam, {"learning_rate": 2e-3}, {}),
    ("radam-optax", "optax.radam", {"lr": 1e-3, "eps_uncorrected": False}, optax_radam, {"learning_rate": 1e-3}, {}),
    ("lion-optax", "optax.lion", {"lr": 1e-4, "weight_decay": 1e-3}, optax_lion, {"learning_rate": 1e-4}, {}),
    ("adam-paper", "arXiv:1412.6980, algorithm 1", {"lr": 1e-3}, paper_adam, {}, {}),
    ("adamw-paper", "arXiv:1711.05101, algorithm 2: weight_decay is lambda / alpha, lr is eta alpha",
     {"lr": 1e-3, "weight_decay": 10.0}, lambda *a, learning_rate: paper_adamw(*a, lam=0.01, eta=learning_rate / 1e-3),
     {}, {"lrs": [1e-3, 5e-4, 2e-3]}),
    ("adamax-paper", "arXiv:1412.6980, algorithm 2", {"lr": 2e-3, "eps": 0.0}, paper_adamax, {}, {}),
    ("radam-paper", "arXiv:1908.03265, algorithm 2", {"lr": 1e-3, "eps": 0.0, "threshold": 4.0},
     paper_radam, {"alpha": 1e-3}, {}),
    ("adadelta-paper", "arXiv:1212.5701, algorithm 1", {"lr": 1.0, "rho": 0.95, "eps": 1e-6}, paper_adadelta, {}, {}),
    ("adan-paper", "arXiv:2208.06677, algorithm 1, with the bias corrections of its authors' code",
     {"lr": 1e-3, "eps_root": 0.0, "look_ahead_by_beta2": True, "proximal_decay": True},
     paper_adan, {"eta": 1e-3}, {}),
    ("adan-paper-decay", "arXiv:2208.06677, algorithm 1, with the bias corrections of its authors' code",
     {"lr": 0.02, "eps_root": 0.0, "look_ahead_by_beta2": True, "proximal_decay": True, "weight_decay": 0.5},
     paper_adan, {"eta": 0.02, "lam": 0.5}, {}),
    ("yogi-paper", "NeurIPS 2018, algorithm 2",
     {"lr": 0.01, "initial_accumulator_value": 0.0, "bias_correction": False}, paper_yogi, {"eta": 0.01}, {}),
    ("muon-torch", "torch.optim.Muon, in f64",
     {"lr": 1e-3, "bias_correction": False, "eps": 0.0, "adjust_lr": "original", "weight_decay": 0.1},
     torch_muon, {"lr": 1e-3}, {}),
    ("muon-torch-rms", "torch.optim.Muon, in f64",
     {"lr": 0.02, "bias_correction": False, "eps": 0.0, "adjust_lr": "match_rms_adamw", "nesterov": False, "weight_decay": 0.1},
     torch_muon, {"lr": 0.02, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, {}),
]


def size(shape):
    return math.prod(shape)


def written(number, name, source, keys, rule, arguments, decay=1.0, lrs=()):
    """Gradients of very different sizes for different elements; with `decay` they shrink from step to step."""
    rng = random.Random(number)
    shapes = MATRICES if rule is torch_muon else SHAPES
    params = [{"name": n, "shape": s, "values": [round(rng.uniform(-2, 2), 3) for _ in range(size(s))]} for n, s in shapes]
    scales = [[10 ** rng.uniform(-4, 0.5) for _ in p["values"]] for p in params]
    count = 8 if decay == 1.0 else max(STEPS)
    grads = [[[float(f"{rng.gauss(0, 1) * scale * decay**t:.4g}") for scale in row] for row in scales] for t in range(count)]
    arrays, slots = [list(p["values"]) for p in params], [[{} for _ in p["values"]] for p in params]
    expect = []
    for t in range(1, max(STEPS) + 1):
        more = {"learning_rate": lrs[(t - 1) % len(lrs)]} if lrs else {}
        for i, gs in enumerate(grads[(t - 1) % count]):
            if rule is torch_muon:
                arrays[i] = rule(arrays[i], gs, slots[i], t, shape=params[i]["shape"], **arguments, **more)
            elif rule is keras_lamb:
                arrays[i] = rule(arrays[i], gs, slots[i], t, **arguments, **more)
            else:
                arrays[i] = [rule(w, g, s, t, **arguments, **more) for w, g, s in zip(arrays[i], gs, slots[i])]
        if t in STEPS:
            expect.append({"step": t, "params": [list(a) for a in arrays]})
    optimizer = {"name": name.split("-")[0], **keys}
    reference = f"formula of {source}, written out in dialects.py"
    case = {"id": f"dialects-{name}", "reference": reference, "optimizer": optimizer,
            "params": params, "grads": grads, "losses": [0.0], "expect": expect}
    return {**case, "lrs": list(lrs)} if lrs else case


# --- MEASURED: p from [1, -2, 0.5, 4], g = [t / 10, -1, 0.5 or -0.5 for even or odd t, 1e-3]; values after each step -------
TORCH, OPTAX = "torch 2.11.0", "optax 0.2.8"
MEASURED = [
    ("sgd-torch", f"torch.optim.SGD, {TORCH}", {"lr": 0.1, "momentum": 0.9},
     {1: [.99, -1.9, .55, 3.9999], 5: [.682969, -.68559, .623305, 3.99868559]}),
    ("sgd-torch-nesterov", f"torch.optim.SGD, {TORCH}", {"lr": 0.1, "momentum": 0.9, "nesterov": True},
     {1: [.981, -1.81, .595, 3.99981], 5: [.5646721, -.317031, .6609745, 3.998317031]}),
    ("rmsprop-torch", f"torch.optim.RMSprop, {TORCH}", {"lr": 0.01, "alpha": 0.99, "eps": 1e-8},
     {1: [.9000000999999, -1.900000009999999, .599999980000004, 3.9000099990001],
      5: [.5891170939098992, -1.6755394634312855, .5819308599494428, 3.6755624089212957]}),
    ("rmsprop-optax", f"optax.rmsprop, {OPTAX}", {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "eps_inside_sqrt": True},
     {1: [.9000049996250313, -1.9000000499999625, .5999998000005999, 3.9292893218813454],
      5: [.5891232797094832, -1.6755395290409345, .5819307149463421, 3.735113711860208]}),
    ("adam-torch", f"torch.optim.Adam, {TORCH}", {"lr": 0.1, "betas": [0.9, 0.999], "eps": 1e-8},
     {1: [.900000009999999, -1.900000001, .599999998, 3.90000099999],
      5: [.5149169317360103, -1.5000000050000013, .6434945203939876, 3.5000049999500016]}),
    ("adamw-torch", f"torch.optim.AdamW, {TORCH}", {"lr": 0.1, "weight_decay": 0.1},
     {1: [.890000009999999, -1.880000001, .594999998, 3.86000099999],
      5: [.47558089977750034, -1.411880603700996, .6145898702812722, 3.3138655995460016]}),
    ("adagrad-torch", f"torch.optim.Adagrad, {TORCH}", {"lr": 0.1},
     {1: [.9000000001, -1.90000000001, .59999999998, 3.900000009999999],
      5: [.5899292479297875, -1.67683293543522, .5817457083346369, 3.6768329582457184]}),
    ("adagrad-optax", f"optax.adagrad, {OPTAX}",
     {"lr": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-7, "eps_inside_sqrt": True},
     {1: [.9698488792472754, -1.9046537454093613, .5845154133992221, 3.9996837739732216],
      5: [.7317089798775567, -1.685183785536415, .5695583270081391, 3.9984188856768794]}),
    ("adadelta-torch", f"torch.optim.Adadelta, {TORCH}", {"lr": 1.0, "rho": 0.9, "eps": 1e-6},
     {1: [.9968393022937949, -1.9968377381511013, .5031622144165124, 3.9990465374107544],
      5: [.9757949738832535, -1.983567137951523, .5032548976890847, 3.9951979085691005]}),
    ("adamax-torch", f"torch.optim.Adamax, {TORCH}", {"lr": 0.1},
     {1: [.900000009999999, -1.900000001, .599999998, 3.90000099999],
      5: [.6247040544347202, -1.500000005, .6434945203939875, 3.5000049999500003]}),
    ("nadam-torch", f"torch.optim.NAdam, {TORCH}", {"lr": 0.1},
     {1: [.8943548327289779, -1.8943548232209129, .6056451757226353, 3.894355878605675],
      5: [.5006636484602697, -1.5950593679459206, .602609147749137, 3.5950634132623818]}),
    ("nadam-optax", f"optax.nadam, {OPTAX}", {"lr": 0.1, "momentum_decay": 1000.0},
     {1: [.852631593684209, -1.8526315804210527, .6473684181052632, 3.8526330526168424],
      5: [.3780748924530616, -1.4213420352855344, .6595733916766269, 3.4213478160207944]}),
    ("radam-torch", f"torch.optim.RAdam, {TORCH}", {"lr": 0.1},
     {1: [.99, -1.9, .55, 3.9999], 7: [.8898730908799457, -1.4941440080044741, .5720996169643681, 3.9936447328457936]}),
    ("radam-optax", f"optax.radam, {OPTAX}; the first coordinate, as a 0-d array", {"lr": 0.1, "eps_uncorrected": False},
     {7: [.8898730893164]}),
    ("rprop-torch", f"torch.optim.Rprop, {TORCH}", {"lr": 0.01},
     {1: [.99, -1.99, .51, 3.99], 5: [.925584, -1.925584, .5175, 3.925584]}),
    ("adabelief-optax", f"optax.adabelief, {OPTAX}", {"lr": 0.1},
     {1: [.8888888888895748, -1.8888888888888957, .6111111111110836, 3.8888888957476113],
      5: [.41697531712948355, -1.3869424339789487, .6576830576790467, 3.386942480675515]}),
    ("yogi-optax", f"optax.yogi, {OPTAX}", {"lr": 0.1},
     {1: [.9055457458890366, -1.9001506615327701, .5995999988073615, 3.9969070689098],
      5: [.5237724727950197, -1.5008647060268923, .6429512783202115, 3.9748419153170085]}),
    ("lion-optax", f"optax.lion, {OPTAX}", {"lr": 0.1, "weight_decay": 0.1},
     {1: [.89, -1.88, .595, 3.86], 5: [.46089054890000003, -1.4118805987999998, .5735347259499999, 3.3138606985999997]}),
    ("adan-optax", f"optax.adan, {OPTAX}", {"lr": 0.1},
     {1: [.9000000599999515, -1.9000000015, .5999999960000002, 3.900497271068159],
      5: [.5293259905646406, -1.5000000075, .6354109781471614, 3.502486355340796]}),
    ("lamb-optax", f"optax.lamb, {OPTAX}", {"lr": 0.1},
     {1: [.7694553869826086, -1.7694533120831664, .7305464573706067, 3.76968339813834],
      5: [-.08207186900045846, -.8848852476388978, .8218560167355395, 2.885998134389756]}),
    ("adam-torch-amsgrad", f"torch.optim.Adam, {TORCH}; g = 10^(1 - t), a 0-d array", {"lr": 0.1, "amsgrad": True},
     {5: [.6805246246997878]}),
    ("adam-optax-amsgrad", f"optax.amsgrad, {OPTAX}; g = 10^(1 - t), a 0-d array",
     {"lr": 0.1, "amsgrad": True, "amsgrad_corrected": True}, {5: [.771920966923086]}),
]


def measured(name, source, keys, values):
    first = len(next(iter(values.values()))) == 1
    start = {"name": "x", "shape": [], "values": [1.0]} if first else {"name": "x", "shape": [4], "values": [1, -2, 0.5, 4]}
    grads = [[[0.1 * t, -1.0, 0.5 if t % 2 == 0 else -0.5, 1e-3]] for t in range(1, max(values) + 1)]
    if "10^" in source:
        grads = [[[float(f"1e{1 - t}")]] for t in range(1, max(values) + 1)]
    elif first:
        grads = [[g[:1] for g in step] for step in grads]
    return {"id": f"dialects-{name}-measured", "reference": f"measured: {source}",
            "optimizer": {"name": name.split("-")[0], **keys}, "params": [start], "grads": grads, "losses": [0.0],
            "expect": [{"step": step, "params": [x]} for step, x in values.items()]}


def main():
    cases = [measured(*case) for case in MEASURED]
    for number, (name, source, keys, rule, arguments, more) in enumerate(WRITTEN):
        cases.append(written(number, name, source, keys, rule, arguments, **more))
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "dialects.json"), "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
