"""Typical wrong answers, as source; a checker must refuse every one."""

MISTAKES_01 = {
    1: [
        # the slope forgotten
        "def gate_gradient(x, delta, logits):\n"
        "    return (x * delta).sum((0, 1))\n",
        # mean for sum
        "def gate_gradient(x, delta, logits):\n"
        "    gate = torch.sigmoid(logits)\n"
        "    return gate * (1 - gate) * (x * delta).mean((0, 1))\n",
        # one row per picture
        "def gate_gradient(x, delta, logits):\n"
        "    gate = torch.sigmoid(logits)\n"
        "    return gate * (1 - gate) * (x * delta).sum(1)\n",
    ],
    2: [
        # the bias scaled as in the chapter's fold
        "def fold_before(linear, gate):\n"
        "    folded = copy.deepcopy(linear)\n"
        "    folded.weight.data *= gate\n"
        "    folded.bias.data *= gate[:3]\n"
        "    return folded\n",
        # in place
        "def fold_before(linear, gate):\n"
        "    linear.weight.data *= gate\n"
        "    return linear\n",
        # rows for columns
        "def fold_before(linear, gate):\n"
        "    folded = copy.deepcopy(linear)\n"
        "    folded.weight.data *= gate[:3, None]\n"
        "    return folded\n",
    ],
    3: [
        # nearly
        "def open_logit(tolerance):\n    return -math.log(tolerance)\n",
        # the wrong side
        "def open_logit(tolerance):\n"
        "    return math.log(tolerance / (1 - tolerance))\n",
        # the gate, not its logit
        "def open_logit(tolerance):\n    return 1 - tolerance\n",
    ],
}

MISTAKES_07 = {
    1: [
        # The gate, where its logarithm is wanted.
        "def log_gate_of(half_life):\n    return 0.5 ** (1 / half_life)",
        # The right size, the wrong sign.
        "def log_gate_of(half_life):\n    return math.log(2) / half_life",
        # A logarithm to another base.
        "def log_gate_of(half_life):\n    return -1 / half_life",
        # One token halves the memory, whatever the half-life.
        "def log_gate_of(half_life):\n    return -math.log(2)",
    ],
    2: [
        # The gate dims the token's own write too.
        """\
def gated_scan(q, k, v, log_gate):
    state, outputs = torch.zeros(k.shape[1], v.shape[1]).to(v), []
    for q_t, k_t, v_t, g_t in zip(q, k, v, log_gate):
        state = g_t.exp()[:, None] * (state + torch.outer(k_t, v_t))
        outputs.append(q_t @ state)
    return torch.stack(outputs)
""",
        # Reads before it writes.
        """\
def gated_scan(q, k, v, log_gate):
    state, outputs = torch.zeros(k.shape[1], v.shape[1]).to(v), []
    for q_t, k_t, v_t, g_t in zip(q, k, v, log_gate):
        outputs.append(q_t @ state)
        state = g_t.exp()[:, None] * state + torch.outer(k_t, v_t)
    return torch.stack(outputs)
""",
        # Multiplies by the logarithm.
        """\
def gated_scan(q, k, v, log_gate):
    state, outputs = torch.zeros(k.shape[1], v.shape[1]).to(v), []
    for q_t, k_t, v_t, g_t in zip(q, k, v, log_gate):
        state = g_t[:, None] * state + torch.outer(k_t, v_t)
        outputs.append(q_t @ state)
    return torch.stack(outputs)
""",
        # One gate for the whole state instead of one per row.
        """\
def gated_scan(q, k, v, log_gate):
    state, outputs = torch.zeros(k.shape[1], v.shape[1]).to(v), []
    for q_t, k_t, v_t, g_t in zip(q, k, v, log_gate):
        state = g_t.mean().exp() * state + torch.outer(k_t, v_t)
        outputs.append(q_t @ state)
    return torch.stack(outputs)
""",
    ],
    3: [
        # Both walls at the first token of the second picture.
        """\
def wall(log_gate_fwd, log_gate_bwd, border):
    forward, backward = log_gate_fwd.clone(), log_gate_bwd.clone()
    forward[:, border] = backward[:, border] = -torch.inf
    return forward, backward
""",
        # Only one direction.
        """\
def wall(log_gate_fwd, log_gate_bwd, border):
    forward = log_gate_fwd.clone()
    forward[:, border] = -torch.inf
    return forward, log_gate_bwd
""",
        # Forgets within the second picture too.
        """\
def wall(log_gate_fwd, log_gate_bwd, border):
    forward, backward = log_gate_fwd.clone(), log_gate_bwd.clone()
    forward[:, border:] = -torch.inf
    backward[:, :border] = -torch.inf
    return forward, backward
""",
        # Right, but it changes the caller's gates.
        """\
def wall(log_gate_fwd, log_gate_bwd, border):
    log_gate_fwd[:, border] = -torch.inf
    log_gate_bwd[:, border - 1] = -torch.inf
    return log_gate_fwd, log_gate_bwd
""",
    ],
}

MISTAKES = {
    (chapter, number): sources
    for chapter, exercises in ((1, MISTAKES_01), (7, MISTAKES_07))
    for number, sources in exercises.items()
}
