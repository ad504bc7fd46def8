"""A reward of your own: the paper's, less a little for every hundred tokens of a right answer."""

PER_HUNDRED_TOKENS = 0.02


def score(gold, output, row):
    """Return the reward and the parts that the logs show; `row["graded"]` holds the paper's own parts."""
    graded = row["graded"]
    cost = min(PER_HUNDRED_TOKENS * row["tokens"] / 100, 0.2) if graded["exact"] else 0.0
    return {"reward": max(graded["total"] - cost, 0.0), "length_cost": cost}
