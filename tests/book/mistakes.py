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

MISTAKES_02 = {
    1: [
        # a logit that falls at constant speed
        "def steps(start, threshold, rate):\n"
        "    end = math.log(threshold / (1 - threshold))\n"
        "    return (start - end) / rate\n",
        # the threshold taken for a logit
        "def steps(start, threshold, rate):\n"
        "    def travel(logit):\n"
        "        return 2 * (logit + math.sinh(logit))\n"
        "    return (travel(start) - travel(threshold)) / rate\n",
        # the rate forgotten
        "def steps(start, threshold, rate):\n"
        "    def travel(logit):\n"
        "        return 2 * (logit + math.sinh(logit))\n"
        "    return travel(start) - travel(math.log(threshold"
        " / (1 - threshold)))\n",
        # from the end to the start
        "def steps(start, threshold, rate):\n"
        "    def travel(logit):\n"
        "        return 2 * (logit + math.sinh(logit))\n"
        "    end = math.log(threshold / (1 - threshold))\n"
        "    return (travel(end) - travel(start)) / rate\n",
    ],
    2: [
        # how often it is open at all
        "def fully_open(logit, beta, low, high):\n"
        "    shift = beta * math.log(-low / high)\n"
        "    return 1 / (1 + math.exp(shift - logit))\n",
        # the other side
        "def fully_open(logit, beta, low, high):\n"
        "    shift = beta * math.log((1 - low) / (high - 1))\n"
        "    return 1 / (1 + math.exp(logit - shift))\n",
        # without the temperature
        "def fully_open(logit, beta, low, high):\n"
        "    shift = math.log((1 - low) / (high - 1))\n"
        "    return 1 / (1 + math.exp(shift - logit))\n",
    ],
    3: [
        # only the linear layers
        "def saved_share(width, tokens, closed):\n"
        "    return 5 / 12 * closed / width\n",
        # the branch before the gate taken as gone
        "def saved_share(width, tokens, closed):\n    return closed / width\n",
        # one row each, the MLP's as short as the attention's
        "def saved_share(width, tokens, closed):\n"
        "    total = 12 * tokens * width**2 + 2 * tokens**2 * width\n"
        "    return 2 * tokens * width * closed / total\n",
    ],
}

MISTAKES_03 = {
    1: [
        # the joint step
        "def routed_step(theta, g, theta_slope, gate_slope, lr, gate_lr):\n"
        "    new = theta - lr * theta_slope(theta, g)\n"
        "    return new, g - gate_lr * gate_slope(theta, g)\n",
        # weights first
        "def routed_step(theta, g, theta_slope, gate_slope, lr, gate_lr):\n"
        "    theta = theta - lr * theta_slope(theta, g)\n"
        "    return theta, g - gate_lr * gate_slope(theta, g)\n",
        # one rate for both
        "def routed_step(theta, g, theta_slope, gate_slope, lr, gate_lr):\n"
        "    g = g - gate_lr * gate_slope(theta, g)\n"
        "    return theta - gate_lr * theta_slope(theta, g), g\n",
        # only the gate
        "def routed_step(theta, g, theta_slope, gate_slope, lr, gate_lr):\n"
        "    return g - gate_lr * gate_slope(theta, g)\n",
    ],
    2: [
        # the travel added up
        "def stat_ratio(momentum, passes):\n    return passes\n",
        # what is left, not what is travelled
        "def stat_ratio(momentum, passes):\n"
        "    return (1 - momentum) ** passes\n",
        # travelled, but not divided by one pass
        "def stat_ratio(momentum, passes):\n"
        "    return 1 - (1 - momentum) ** passes\n",
        # right for two passes only
        "def stat_ratio(momentum, passes):\n    return 2 - momentum\n",
    ],
    3: [
        # as if no first gradient were saved
        "def routed_price(costs, gate):\n"
        "    plain = 3 * sum(costs) - costs[0]\n"
        "    return 1 + (2 * sum(costs) - costs[0]) / plain\n",
        # the forward pass forgotten
        "def routed_price(costs, gate):\n"
        "    plain = 3 * sum(costs) - costs[0]\n"
        "    return 1 + sum(costs[gate + 1 :]) / plain\n",
        # the gradient passes through the layer before the gate
        "def routed_price(costs, gate):\n"
        "    plain = 3 * sum(costs) - costs[0]\n"
        "    return 1 + (sum(costs) + sum(costs[gate:])) / plain\n",
        # the first layer's input gradient counted
        "def routed_price(costs, gate):\n"
        "    first = sum(costs) + sum(costs[gate + 1 :])\n"
        "    return 1 + first / (3 * sum(costs))\n",
    ],
}

MISTAKES_04 = {
    1: [
        # Unpaired.
        "def paired_interval(a, b, quantile):\n"
        "    half = quantile * ((a.var() + b.var()) / len(a)).sqrt()\n"
        "    mean = a.mean() - b.mean()\n"
        "    return mean - half, mean + half\n",
        # The mean taken for known.
        "def paired_interval(a, b, quantile):\n"
        "    d = a - b\n"
        "    half = quantile * d.std(correction=0) / math.sqrt(len(d))\n"
        "    return d.mean() - half, d.mean() + half\n",
        # Of one difference.
        "def paired_interval(a, b, quantile):\n"
        "    d = a - b\n"
        "    half = quantile * d.std()\n"
        "    return d.mean() - half, d.mean() + half\n",
        # The other way round.
        "def paired_interval(a, b, quantile):\n"
        "    d = b - a\n"
        "    half = quantile * d.std() / math.sqrt(len(d))\n"
        "    return d.mean() - half, d.mean() + half\n",
    ],
    2: [
        # One tail.
        "def seeds_needed(sd, effect, level, power):\n"
        "    ends = torch.tensor([1 - level, power]).double()\n"
        "    z = torch.special.ndtri(ends).sum().item()\n"
        "    return math.ceil((z * sd / effect) ** 2)\n",
        # Rounded down.
        "def seeds_needed(sd, effect, level, power):\n"
        "    ends = torch.tensor([1 - level / 2, power]).double()\n"
        "    z = torch.special.ndtri(ends).sum().item()\n"
        "    return int((z * sd / effect) ** 2)\n",
        # Not squared.
        "def seeds_needed(sd, effect, level, power):\n"
        "    ends = torch.tensor([1 - level / 2, power]).double()\n"
        "    z = torch.special.ndtri(ends).sum().item()\n"
        "    return math.ceil(abs(z * sd / effect))\n",
    ],
    3: [
        # Bonferroni.
        "def each_level(comparisons, level):\n"
        "    return level / comparisons\n",
        # The root of the wrong thing.
        "def each_level(comparisons, level):\n"
        "    return level ** (1 / comparisons)\n",
        # The chance of a false alarm, not the level that gives it.
        "def each_level(comparisons, level):\n"
        "    return 1 - (1 - level) ** comparisons\n",
    ],
}

MISTAKES_05 = {
    1: [
        # the whole angle in the triangle
        "def size_from(angle, distance):\n"
        "    return 2 * distance * math.sin(angle)\n",
        # the tangent: that ball touches the ray elsewhere
        "def size_from(angle, distance):\n"
        "    return 2 * distance * math.tan(angle / 2)\n",
        # good for small angles only
        "def size_from(angle, distance):\n    return angle * distance\n",
        # the radius
        "def size_from(angle, distance):\n"
        "    return distance * math.sin(angle / 2)\n",
    ],
    2: [
        # the accuracy for the weighted F1
        "def constant_f1(counts):\n"
        "    p = max(counts) / sum(counts)\n"
        "    return p, 2 * p / (1 + p) / len(counts)\n",
        # classes that do not occur are counted
        "def constant_f1(counts):\n"
        "    p = max(counts) / sum(counts)\n"
        "    f1 = 2 * p / (1 + p)\n"
        "    return p * f1, f1 / len(counts)\n",
        # the commonest class taken to be the first
        "def constant_f1(counts):\n"
        "    p = counts[0] / sum(counts)\n"
        "    f1 = 2 * p / (1 + p)\n"
        "    return p * f1, f1 / sum(count > 0 for count in counts)\n",
    ],
    3: [
        # rows
        "def on_both_sides(train, test):\n"
        "    return train.patient.isin(test.patient).sum()\n",
        # the same name in two databases
        "def on_both_sides(train, test):\n"
        "    return len(set(train.patient) & set(test.patient))\n",
        # polyps
        "def on_both_sides(train, test):\n"
        "    return len(set(train.polyp) & set(test.polyp))\n",
        # a merge counts pairs of rows
        "def on_both_sides(train, test):\n"
        "    return len(train.merge(test, on=['database', 'patient']))\n",
    ],
}

MISTAKES_06 = {
    1: [
        # thresholds in mm, targets scaled, as released
        """\
def weighted_loss(outputs, size_mm):
    scaled = (size_mm - 0.5) / 19.5 * 2 - 1
    weight = 1 + 2 * (scaled > 5) + 2 * (scaled >= 10)
    errors = nn.functional.smooth_l1_loss(outputs, scaled, reduction="none")
    return (weight * errors).mean()
""",
        # a weighted mean
        """\
def weighted_loss(outputs, size_mm):
    scaled = (size_mm - 0.5) / 19.5 * 2 - 1
    weight = 1 + 2 * (size_mm > 5) + 2 * (size_mm >= 10)
    errors = nn.functional.smooth_l1_loss(outputs, scaled, reduction="none")
    return (weight * errors).sum() / weight.sum()
""",
        # the edges on the wrong sides
        """\
def weighted_loss(outputs, size_mm):
    scaled = (size_mm - 0.5) / 19.5 * 2 - 1
    weight = 1 + 2 * (size_mm >= 5) + 2 * (size_mm > 10)
    errors = nn.functional.smooth_l1_loss(outputs, scaled, reduction="none")
    return (weight * errors).mean()
""",
        # one loss per polyp
        """\
def weighted_loss(outputs, size_mm):
    scaled = (size_mm - 0.5) / 19.5 * 2 - 1
    weight = 1 + 2 * (size_mm > 5) + 2 * (size_mm >= 10)
    errors = nn.functional.smooth_l1_loss(outputs, scaled, reduction="none")
    return weight * errors
""",
    ],
    2: [
        # true positives for true negatives, as released
        """\
def specificity(true, predicted, n_classes):
    shares = []
    for c in range(n_classes):
        right = ((true == c) & (predicted == c)).sum()
        shares.append(right / (predicted == c).sum())
    return sum(shares) / n_classes
""",
        # of the class itself
        """\
def specificity(true, predicted, n_classes):
    shares = [(predicted[true == c] == c).float().mean()
              for c in range(n_classes)]
    return sum(shares) / n_classes
""",
        # NaN where a class has no negatives
        """\
def specificity(true, predicted, n_classes):
    shares = [(predicted[true != c] != c).float().mean()
              for c in range(n_classes)]
    return sum(shares) / n_classes
""",
        # all frames in the denominator
        """\
def specificity(true, predicted, n_classes):
    spared = [((true != c) & (predicted != c)).float().mean()
              for c in range(n_classes)]
    return sum(spared) / n_classes
""",
    ],
    3: [
        # the error, not its growth
        """\
def importance(predict, inputs, size_mm, name, order):
    mixed = inputs | {name: inputs[name][order]}
    return (predict(mixed) - size_mm).abs().mean()
""",
        # in place
        """\
def importance(predict, inputs, size_mm, name, order):
    before = (predict(inputs) - size_mm).abs().mean()
    inputs[name] = inputs[name][order]
    return (predict(inputs) - size_mm).abs().mean() - before
""",
        # all streams, and the sizes with them
        """\
def importance(predict, inputs, size_mm, name, order):
    mixed = {other: inputs[other][order] for other in inputs}
    before = (predict(inputs) - size_mm).abs().mean()
    return (predict(mixed) - size_mm[order]).abs().mean() - before
""",
        # all streams, but not the sizes
        """\
def importance(predict, inputs, size_mm, name, order):
    mixed = {other: inputs[other][order] for other in inputs}
    before = (predict(inputs) - size_mm).abs().mean()
    return (predict(mixed) - size_mm).abs().mean() - before
""",
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

MISTAKES_08 = {
    1: [
        # The first chunk's decay on the second one's write.
        """\
def join(first, second):
    (d1, w1), (d2, w2) = first, second
    return d1 * d2, d1[:, None] * w2 + w1
""",
        # The first write passes the second chunk undimmed.
        """\
def join(first, second):
    (d1, w1), (d2, w2) = first, second
    return d1 * d2, w1 + w2
""",
        # Decays as if they were logarithms.
        """\
def join(first, second):
    (d1, w1), (d2, w2) = first, second
    return d1 + d2, d2[:, None] * w1 + w2
""",
        # The first write passes its own chunk once more.
        """\
def join(first, second):
    (d1, w1), (d2, w2) = first, second
    return d1 * d2, (d1 * d2)[:, None] * w1 + w2
""",
    ],
    2: [
        # Where the two terms of the product count are equal.
        "def leanest_chunk(K, V):\n    return 2 * K * V / (K + V)",
        # The root forgotten.
        "def leanest_chunk(K, V):\n    return float(K * V)",
        # The mean of the widths.
        "def leanest_chunk(K, V):\n    return (K + V) / 2",
    ],
    3: [
        # Chapter 7: rows minus columns.
        """\
def gate_gradient(E):
    return (E.sum(1) - E.sum(0)).flip(0).cumsum(0).flip(0)
""",
        # The gate's own write included.
        """\
def gate_gradient(E):
    return E.flip(0).cumsum(0).flip(0).cumsum(1).diagonal()
""",
        # The gate's own read left out.
        """\
def gate_gradient(E):
    sums = [E[m + 1 :, :m].sum() for m in range(len(E))]
    return torch.stack(sums)
""",
        # A rectangle as the difference of two sums.
        """\
def gate_gradient(E):
    sums = [E[m:].sum() - E[m:, m:].sum() for m in range(len(E))]
    return torch.stack(sums)
""",
        # Nothing for the first gate, so all of them move up.
        """\
def gate_gradient(E):
    return E.flip(0).cumsum(0).flip(0).cumsum(1).diagonal(-1)
""",
    ],
}

MISTAKES_09 = {
    1: [
        # Both readings of the token itself.
        """\
def once(output, q, k, v, scale):
    return output - 2 * scale * (q * k).sum(-1, keepdim=True) * v
""",
        # Without the scale.
        """\
def once(output, q, k, v, scale):
    return output - (q * k).sum(-1, keepdim=True) * v
""",
        # ViG's mean, where the diagonal still weighs twice the rest.
        "def once(output, q, k, v, scale):\n    return output / 2",
        # The value alone, which was right in row_means.
        "def once(output, q, k, v, scale):\n    return output - v",
        # Right, but in place.
        """\
def once(output, q, k, v, scale):
    output -= scale * (q * k).sum(-1, keepdim=True) * v
    return output
""",
    ],
    2: [
        # Forgets that a row has many tokens.
        """\
def half_life_for(width, rows, weight):
    return -rows / math.log2(weight)
""",
        # The sign.
        """\
def half_life_for(width, rows, weight):
    return rows * width / math.log2(weight)
""",
        # The natural logarithm: right for no weight.
        """\
def half_life_for(width, rows, weight):
    return -rows * width / math.log(weight)
""",
        # Right for one half only.
        "def half_life_for(width, rows, weight):\n    return rows * width",
    ],
    3: [
        # The right addresses, but every token dims all of them.
        """\
def see_down(height, width, half_life):
    k = torch.eye(width).repeat(height, 1)[None, :, None]
    return k, k, torch.full_like(k, -math.log(2) / half_life)
""",
        # Dims the other columns instead of its own.
        """\
def see_down(height, width, half_life):
    k = torch.eye(width).repeat(height, 1)[None, :, None]
    return k, k, -math.log(2) / half_life * (1 - k)
""",
        # Neighbours in the sequence share an address.
        """\
def see_down(height, width, half_life):
    k = torch.eye(width).repeat_interleave(height, 0)[None, :, None]
    return k, k, -math.log(2) / half_life * k
""",
        # Half-life in tokens.
        """\
def see_down(height, width, half_life):
    k = torch.eye(width).repeat(height, 1)[None, :, None]
    return k, k, -math.log(2) / (half_life * width) * k
""",
        # A gate where its logarithm is wanted.
        """\
def see_down(height, width, half_life):
    k = torch.eye(width).repeat(height, 1)[None, :, None]
    return k, k, 0.5 ** (k / half_life)
""",
    ],
}

MISTAKES_10 = {
    1: [
        # The last block runs over the end.
        """\
@triton.jit
def gate_kernel(x, logits, out, N, C, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.sigmoid(tl.load(logits + i % C))
    tl.store(out + i, tl.load(x + i) * gate)
""",
        # Loads are masked, the store is not.
        """\
@triton.jit
def gate_kernel(x, logits, out, N, C, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.sigmoid(tl.load(logits + i % C))
    tl.store(out + i, tl.load(x + i, mask=i < N) * gate)
""",
        # One element too many.
        """\
@triton.jit
def gate_kernel(x, logits, out, N, C, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.sigmoid(tl.load(logits + i % C))
    tl.store(out + i, tl.load(x + i) * gate, mask=i <= N)
""",
        # Channels first.
        """\
@triton.jit
def gate_kernel(x, logits, out, N, C, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.sigmoid(tl.load(logits + i // (N // C), mask=i < N))
    tl.store(out + i, tl.load(x + i, mask=i < N) * gate, mask=i < N)
""",
        # Every program does the first block.
        """\
@triton.jit
def gate_kernel(x, logits, out, N, C, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    gate = tl.sigmoid(tl.load(logits + i % C))
    tl.store(out + i, tl.load(x + i) * gate, mask=i < N)
""",
    ],
    2: [
        # The mean over the padded block.
        """\
@triton.jit
def rms_norm_kernel(
    x, out, stride_b, stride_t, stride_h, T, H, V, eps, BLOCK: tl.constexpr
):
    me = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    at = me // (H * T) * stride_b + me // H % T * stride_t + me % H * stride_h
    row = tl.load(x + at + c, mask=c < V, other=0.0)
    mean = tl.sum(row * row, axis=0) / BLOCK
    tl.store(out + me * V + c, row / tl.sqrt(mean + eps), mask=c < V)
""",
        # The view taken for contiguous.
        """\
@triton.jit
def rms_norm_kernel(
    x, out, stride_b, stride_t, stride_h, T, H, V, eps, BLOCK: tl.constexpr
):
    me = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    row = tl.load(x + me * V + c, mask=c < V, other=0.0)
    mean = tl.sum(row * row, axis=0) / V
    tl.store(out + me * V + c, row / tl.sqrt(mean + eps), mask=c < V)
""",
        # What the mask hides is left to chance.
        """\
@triton.jit
def rms_norm_kernel(
    x, out, stride_b, stride_t, stride_h, T, H, V, eps, BLOCK: tl.constexpr
):
    me = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    at = me // (H * T) * stride_b + me // H % T * stride_t + me % H * stride_h
    row = tl.load(x + at + c, mask=c < V)
    mean = tl.sum(row * row, axis=0) / V
    tl.store(out + me * V + c, row / tl.sqrt(mean + eps), mask=c < V)
""",
        # The store is not masked; in order, the next program repairs it.
        """\
@triton.jit
def rms_norm_kernel(
    x, out, stride_b, stride_t, stride_h, T, H, V, eps, BLOCK: tl.constexpr
):
    me = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    at = me // (H * T) * stride_b + me // H % T * stride_t + me % H * stride_h
    row = tl.load(x + at + c, mask=c < V, other=0.0)
    mean = tl.sum(row * row, axis=0) / V
    tl.store(out + me * V + c, row / tl.sqrt(mean + eps))
""",
        # Tokens fastest.
        """\
@triton.jit
def rms_norm_kernel(
    x, out, stride_b, stride_t, stride_h, T, H, V, eps, BLOCK: tl.constexpr
):
    me = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    at = me // (H * T) * stride_b + me % T * stride_t + me // T % H * stride_h
    row = tl.load(x + at + c, mask=c < V, other=0.0)
    mean = tl.sum(row * row, axis=0) / V
    tl.store(out + me * V + c, row / tl.sqrt(mean + eps), mask=c < V)
""",
    ],
    3: [
        # From the first token to the last.
        """\
@triton.jit
def scan_kernel(x, log_gate, out, T, C, BLOCK: tl.constexpr):
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = c < C
    state = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for t in range(T):
        gate = tl.exp(tl.load(log_gate + t * C + c, mask=inside, other=0.0))
        state = gate * state + tl.load(x + t * C + c, mask=inside, other=0.0)
        tl.store(out + t * C + c, state, mask=inside)
""",
        # The gate dims the token's own write too.
        """\
@triton.jit
def scan_kernel(x, log_gate, out, T, C, BLOCK: tl.constexpr):
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = c < C
    state = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for step in range(T):
        here = (T - 1 - step) * C + c
        gate = tl.exp(tl.load(log_gate + here, mask=inside, other=0.0))
        state = gate * (state + tl.load(x + here, mask=inside, other=0.0))
        tl.store(out + here, state, mask=inside)
""",
        # The gate without its exponential.
        """\
@triton.jit
def scan_kernel(x, log_gate, out, T, C, BLOCK: tl.constexpr):
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = c < C
    state = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for step in range(T):
        here = (T - 1 - step) * C + c
        gate = tl.load(log_gate + here, mask=inside, other=0.0)
        state = gate * state + tl.load(x + here, mask=inside, other=0.0)
        tl.store(out + here, state, mask=inside)
""",
        # Without a mask: a program's last channels are the next row's first.
        """\
@triton.jit
def scan_kernel(x, log_gate, out, T, C, BLOCK: tl.constexpr):
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    state = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for step in range(T):
        here = (T - 1 - step) * C + c
        gate = tl.exp(tl.load(log_gate + here))
        state = gate * state + tl.load(x + here)
        tl.store(out + here, state)
""",
    ],
    4: [
        # Carried on without the gate.
        """\
@triton.jit
def gate_gradient_kernel(
    states, log_gate, grad, d_log_gate, T, C, BLOCK: tl.constexpr
):
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = c < C
    total = tl.zeros([BLOCK], dtype=d_log_gate.dtype.element_ty)
    for step in range(T):
        t = T - 1 - step
        here = t * C + c
        total = total + tl.load(grad + here, mask=inside, other=0.0)
        gate = tl.exp(tl.load(log_gate + here, mask=inside, other=0.0))
        earlier = inside & (t > 0)
        before = tl.load(states + here - C, mask=earlier, other=0.0)
        tl.store(d_log_gate + here, total * gate * before, mask=inside)
""",
        # The token's own state for the one before it.
        """\
@triton.jit
def gate_gradient_kernel(
    states, log_gate, grad, d_log_gate, T, C, BLOCK: tl.constexpr
):
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = c < C
    carried = tl.zeros([BLOCK], dtype=d_log_gate.dtype.element_ty)
    for step in range(T):
        here = (T - 1 - step) * C + c
        total = carried + tl.load(grad + here, mask=inside, other=0.0)
        gate = tl.exp(tl.load(log_gate + here, mask=inside, other=0.0))
        carried = gate * total
        state = tl.load(states + here, mask=inside, other=0.0)
        tl.store(d_log_gate + here, carried * state, mask=inside)
""",
        # By the gate, not by its logarithm.
        """\
@triton.jit
def gate_gradient_kernel(
    states, log_gate, grad, d_log_gate, T, C, BLOCK: tl.constexpr
):
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = c < C
    carried = tl.zeros([BLOCK], dtype=d_log_gate.dtype.element_ty)
    for step in range(T):
        t = T - 1 - step
        here = t * C + c
        total = carried + tl.load(grad + here, mask=inside, other=0.0)
        gate = tl.exp(tl.load(log_gate + here, mask=inside, other=0.0))
        carried = gate * total
        earlier = inside & (t > 0)
        before = tl.load(states + here - C, mask=earlier, other=0.0)
        tl.store(d_log_gate + here, total * before, mask=inside)
""",
        # Reads in front of the first token.
        """\
@triton.jit
def gate_gradient_kernel(
    states, log_gate, grad, d_log_gate, T, C, BLOCK: tl.constexpr
):
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = c < C
    carried = tl.zeros([BLOCK], dtype=d_log_gate.dtype.element_ty)
    for step in range(T):
        here = (T - 1 - step) * C + c
        total = carried + tl.load(grad + here, mask=inside, other=0.0)
        gate = tl.exp(tl.load(log_gate + here, mask=inside, other=0.0))
        carried = gate * total
        before = tl.load(states + here - C, mask=inside, other=0.0)
        tl.store(d_log_gate + here, carried * before, mask=inside)
""",
    ],
}

MISTAKES_11 = {
    1: [
        # Copies written but never read; or a third kernel that adds.
        "def break_even(K, V, e, c):\n    return c * K / (2 * e)\n",
        # Copies in the inputs' type.
        "def break_even(K, V, e, c):\n    return K\n",
        # The two widths exchanged.
        "def break_even(K, V, e, c):\n    return c * V / e\n",
        # The two sizes exchanged.
        "def break_even(K, V, e, c):\n    return e * K / c\n",
    ],
    2: [
        # The second sweep reads nothing.
        """\
def thrifty(K, V, C, e, c):
    return e * (8 * K + 3 * V) + 4 * c * K * V / C
""",
        # No gradients.
        """\
def thrifty(K, V, C, e, c):
    return e * (8 * K + 4 * V) + 4 * c * K * V / C
""",
        # What is shipped: four copies.
        """\
def thrifty(K, V, C, e, c):
    return e * (12 * K + 5 * V) + 8 * c * K * V / C
""",
        # A copy for each token.
        """\
def thrifty(K, V, C, e, c):
    return e * (12 * K + 5 * V) + 4 * c * K * V
""",
        # Copies in the inputs' type.
        """\
def thrifty(K, V, C, e, c):
    return e * (12 * K + 5 * V + 4 * K * V / C)
""",
    ],
    3: [
        # Rounded down: too few programs.
        """\
def segments(B, T, H, C, processors):
    wanted = 2 * processors // (B * H)
    return max(1, min(wanted, math.ceil(T / C) // 4))
""",
        # As many as are wanted, however short.
        """\
def segments(B, T, H, C, processors):
    return max(1, math.ceil(2 * processors / (B * H)))
""",
        # None at all for a small picture.
        """\
def segments(B, T, H, C, processors):
    wanted = math.ceil(2 * processors / (B * H))
    return min(wanted, math.ceil(T / C) // 4)
""",
        # One program for each multiprocessor.
        """\
def segments(B, T, H, C, processors):
    wanted = math.ceil(processors / (B * H))
    return max(1, min(wanted, math.ceil(T / C) // 4))
""",
        # As many as fit.
        """\
def segments(B, T, H, C, processors):
    return max(1, math.ceil(T / C) // 4)
""",
    ],
}

MISTAKES_12 = {
    1: [
        # Channels read as places.
        """\
def positions(table, height, width):
    side = math.isqrt(table.shape[1])
    grid = table.reshape(1, -1, side, side)
    grid = nn.functional.interpolate(grid, (height, width), mode="bicubic")
    return grid.permute(0, 2, 3, 1)
""",
        # Channels still second.
        """\
def positions(table, height, width):
    side = math.isqrt(table.shape[1])
    grid = table.mT.reshape(1, -1, side, side)
    return nn.functional.interpolate(grid, (height, width), mode="bicubic")
""",
        # Corner on corner.
        """\
def positions(table, height, width):
    side = math.isqrt(table.shape[1])
    grid = nn.functional.interpolate(
        table.mT.reshape(1, -1, side, side),
        (height, width),
        mode="bicubic",
        align_corners=True,
    )
    return grid.permute(0, 2, 3, 1)
""",
        # Not the smooth one.
        """\
def positions(table, height, width):
    side = math.isqrt(table.shape[1])
    grid = table.mT.reshape(1, -1, side, side)
    grid = nn.functional.interpolate(grid, (height, width), mode="bilinear")
    return grid.permute(0, 2, 3, 1)
""",
        # The default mode.
        """\
def positions(table, height, width):
    side = math.isqrt(table.shape[1])
    grid = table.mT.reshape(1, -1, side, side)
    grid = nn.functional.interpolate(grid, (height, width))
    return grid.permute(0, 2, 3, 1)
""",
        # Rows and columns exchanged.
        """\
def positions(table, height, width):
    side = math.isqrt(table.shape[1])
    grid = table.mT.reshape(1, -1, side, side).mT
    grid = nn.functional.interpolate(grid, (width, height), mode="bicubic")
    return grid.permute(0, 3, 2, 1).mT.reshape(1, height, width, -1)
""",
    ],
    2: [
        # The gate exchanged.
        """\
def merge(o, x, logits):
    G = logits.sigmoid().view_as(o)
    o = nn.functional.rms_norm(o, o.shape[-1:], eps=1e-6)
    x = nn.functional.rms_norm(x, x.shape[-1:], eps=1e-6)
    return x * G + o * (1 - G)
""",
        # One norm for all heads of the scan.
        """\
def merge(o, x, logits):
    G = logits.sigmoid().view_as(o)
    o = nn.functional.rms_norm(o, o.shape[-2:], eps=1e-6)
    x = nn.functional.rms_norm(x, x.shape[-1:], eps=1e-6)
    return o * G + x * (1 - G)
""",
        # One norm for all heads, local and scan.
        """\
def merge(o, x, logits):
    G = logits.sigmoid().view_as(o)
    o = nn.functional.rms_norm(o, o.shape[-2:], eps=1e-6)
    x = nn.functional.rms_norm(x, x.shape[-2:], eps=1e-6)
    return o * G + x * (1 - G)
""",
        # Channels of the gate dealt to the heads in turn.
        """\
def merge(o, x, logits):
    G = logits.sigmoid().unflatten(-1, (o.shape[-1], -1)).mT
    o = nn.functional.rms_norm(o, o.shape[-1:], eps=1e-6)
    x = nn.functional.rms_norm(x, x.shape[-1:], eps=1e-6)
    return o * G + x * (1 - G)
""",
        # No norms.
        """\
def merge(o, x, logits):
    G = logits.sigmoid().view_as(o)
    return o * G + x * (1 - G)
""",
    ],
    3: [
        # Norms without biases, as in plain ViG.
        """\
def block_parameters(C):
    inner = 32 * math.ceil(8 * C // 3 / 32)
    linears = 2 * C**2 + 33 * C + C**2 + C + C**2
    return 9 * C + linears + 2 * 32 + 2 * C + 3 * C * inner
""",
        # Heads as wide as in plain ViG.
        """\
def block_parameters(C):
    inner = 32 * math.ceil(8 * C // 3 / 32)
    linears = 2 * C**2 + 33 * C + C**2 + C + C**2
    return 9 * C + linears + 2 * 64 + 4 * C + 3 * C * inner
""",
        # Rounded as in plain ViG.
        """\
def block_parameters(C):
    inner = 256 * math.ceil(8 * C // 3 / 256)
    linears = 2 * C**2 + 33 * C + C**2 + C + C**2
    return 9 * C + linears + 2 * 32 + 4 * C + 3 * C * inner
""",
        # Not rounded: right for 96 channels.
        """\
def block_parameters(C):
    linears = 2 * C**2 + 33 * C + C**2 + C + C**2
    return 9 * C + linears + 2 * 32 + 4 * C + 3 * C * (8 * C // 3)
""",
        # A SwiGLU of two matrices.
        """\
def block_parameters(C):
    inner = 32 * math.ceil(8 * C // 3 / 32)
    linears = 2 * C**2 + 33 * C + C**2 + C + C**2
    return 9 * C + linears + 2 * 32 + 4 * C + 2 * C * inner
""",
    ],
}

MISTAKES_13 = {
    1: [
        # One direction.
        """\
def vig_block(dim, heads, inner, tokens):
    scan = 2 * heads * (dim // (2 * heads)) * (dim // heads)
    return tokens * (4 * dim**2 + 41 * dim + 3 * dim * inner + scan)
""",
        # No scan.
        """\
def vig_block(dim, heads, inner, tokens):
    return tokens * (4 * dim**2 + 41 * dim + 3 * dim * inner)
""",
        # The last layer of the MLP forgotten, as in the published counts.
        """\
def vig_block(dim, heads, inner, tokens):
    scan = 2 * dim**2 // heads
    return tokens * (4 * dim**2 + 41 * dim + 2 * dim * inner + scan)
""",
        # One state for all heads.
        """\
def vig_block(dim, heads, inner, tokens):
    scan = 2 * dim**2
    return tokens * (4 * dim**2 + 41 * dim + 3 * dim * inner + scan)
""",
        # No convolution.
        """\
def vig_block(dim, heads, inner, tokens):
    scan = 2 * dim**2 // heads
    return tokens * (4 * dim**2 + 32 * dim + 3 * dim * inner + scan)
""",
        # Queries and keys as wide as values.
        """\
def vig_block(dim, heads, inner, tokens):
    scan = 2 * dim**2 // heads
    return tokens * (5 * dim**2 + 41 * dim + 3 * dim * inner + scan)
""",
        # FLOPs.
        """\
def vig_block(dim, heads, inner, tokens):
    scan = 2 * dim**2 // heads
    return 2 * tokens * (4 * dim**2 + 41 * dim + 3 * dim * inner + scan)
""",
    ],
    2: [
        # The bare mixers.
        "def crossing(dim, heads, inner):\n    return dim / heads\n",
        # One product of attention.
        """\
def crossing(dim, heads, inner):
    vig = 4 * dim**2 + 41 * dim + 3 * dim * inner + 2 * dim**2 / heads
    return (vig - 12 * dim**2) / dim
""",
        # The MLPs taken to be equal, which they are for one width.
        """\
def crossing(dim, heads, inner):
    return dim / heads + 41 / 2
""",
    ],
    3: [
        # Whatever is not called, whether it matters or not.
        """\
def unseen(model, x):
    called = set()
    handles = [
        module.register_forward_hook(lambda m, *_: called.add(m))
        for module in model.modules()
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return {n for n, m in model.named_modules() if m not in called}
""",
        # Gradients of an earlier step are taken for influence.
        """\
def unseen(model, x):
    called = set()
    handles = [
        module.register_forward_hook(lambda m, *_: called.add(m))
        for module in model.modules()
    ]
    model(x).sum().backward()
    for handle in handles:
        handle.remove()
    return {
        name
        for name, module in model.named_modules()
        if module not in called
        and any(p.grad is not None for p in module.parameters(recurse=False))
    }
""",
        # Only at the top.
        """\
def unseen(model, x):
    called = set()
    handles = [
        module.register_forward_hook(lambda m, *_: called.add(m))
        for module in model.modules()
    ]
    model.zero_grad()
    model(x).sum().backward()
    for handle in handles:
        handle.remove()
    return {
        name
        for name, module in model.named_children()
        if module not in called
        and any(p.grad is not None for p in module.parameters())
    }
""",
        # The hooks stay.
        """\
def unseen(model, x):
    called = set()
    for module in model.modules():
        module.register_forward_hook(lambda m, *_: called.add(m))
    model.zero_grad()
    model(x).sum().backward()
    return {
        name
        for name, module in model.named_modules()
        if module not in called
        and any(p.grad is not None for p in module.parameters(recurse=False))
    }
""",
    ],
}

MISTAKES_14 = {
    1: [
        # Columns for rows.
        """\
def into_values(weight, fwd, bwd):
    most = torch.maximum(fwd, bwd)
    weight = weight.clone()
    weight[-len(fwd) :] *= most
    most = torch.where(most > 0, most, 1)
    return weight, fwd / most, bwd / most
""",
        # Queries and keys, too.
        """\
def into_values(weight, fwd, bwd):
    most = torch.maximum(fwd, bwd)
    factor = torch.cat([most, most])
    most = torch.where(most > 0, most, 1)
    return weight * factor[:, None], fwd / most, bwd / most
""",
        # The forward gate, closed or not.
        """\
def into_values(weight, fwd, bwd):
    weight = weight.clone()
    weight[-len(fwd) :] *= fwd[:, None]
    return weight, torch.ones_like(fwd), bwd / fwd
""",
        # Right, but in place.
        """\
def into_values(weight, fwd, bwd):
    most = torch.maximum(fwd, bwd)
    weight[-len(fwd) :] *= most[:, None]
    fwd, bwd = (torch.where(most > 0, g / most, 1) for g in (fwd, bwd))
    return weight, fwd, bwd
""",
        # The mean, which is not the larger one.
        """\
def into_values(weight, fwd, bwd):
    mean = (fwd + bwd) / 2
    weight = weight.clone()
    weight[-len(fwd) :] *= mean[:, None]
    fwd, bwd = (torch.where(mean > 0, g / mean, 1) for g in (fwd, bwd))
    return weight, fwd, bwd
""",
        # A channel that both directions close stays at 0 / 0.
        """\
def into_values(weight, fwd, bwd):
    most = torch.maximum(fwd, bwd)
    weight = weight.clone()
    weight[-len(fwd) :] *= most[:, None]
    return weight, fwd / most, bwd / most
""",
    ],
    2: [
        # Each direction by itself.
        """\
def loudest(fwd, bwd, heads):
    def scaled(gate):
        gate = gate.reshape(heads, -1)
        most = gate.max(1, keepdim=True).values
        return (gate / most.clamp(min=1e-30)).flatten()
    return scaled(fwd), scaled(bwd)
""",
        # Each channel by itself.
        """\
def loudest(fwd, bwd, heads):
    most = torch.maximum(fwd, bwd).clamp(min=1e-30)
    return fwd / most, bwd / most
""",
        # All heads together.
        """\
def loudest(fwd, bwd, heads):
    most = torch.maximum(fwd, bwd).max()
    return fwd / most, bwd / most
""",
        # Channels dealt to the heads in turn.
        """\
def loudest(fwd, bwd, heads):
    both = torch.stack([fwd, bwd]).reshape(2, -1, heads)
    most = both.amax((0, 1), keepdim=True).clamp(min=1e-30)
    return (both / most).flatten(1).unbind()
""",
        # A closed head divides by 0.
        """\
def loudest(fwd, bwd, heads):
    both = torch.stack([fwd, bwd]).reshape(2, heads, -1)
    most = both.amax((0, 2), keepdim=True)
    return (both / most).flatten(1).unbind()
""",
    ],
    3: [
        # As if a block whose gates are left were merged.
        """\
def blocks_needed(depth, merged, single):
    return 0 if single < merged else depth
""",
        # Rounded down.
        """\
def blocks_needed(depth, merged, single):
    return max(0, math.floor(depth * (2 - merged / single)))
""",
        # A closed direction thought to cost nothing, and its twin, too.
        """\
def blocks_needed(depth, merged, single):
    return max(0, math.ceil(depth * (1 - merged / (2 * single))))
""",
        # Below zero.
        """\
def blocks_needed(depth, merged, single):
    return math.ceil(depth * (2 - merged / single))
""",
    ],
}

MISTAKES = {
    (chapter, number): sources
    for chapter, exercises in (
        (1, MISTAKES_01),
        (2, MISTAKES_02),
        (3, MISTAKES_03),
        (4, MISTAKES_04),
        (5, MISTAKES_05),
        (6, MISTAKES_06),
        (7, MISTAKES_07),
        (8, MISTAKES_08),
        (9, MISTAKES_09),
        (10, MISTAKES_10),
        (11, MISTAKES_11),
        (12, MISTAKES_12),
        (13, MISTAKES_13),
        (14, MISTAKES_14),
    )
    for number, sources in exercises.items()
}
