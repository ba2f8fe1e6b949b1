"""All schedules in one picture; the one in docs/schedules.md is made by

python examples/schedules.py docs/schedules.png
"""

import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fluxion import schedules as s

STEPS = 100
SCHEDULES = [
    s.Step(1.0, 0.5, 25),
    s.Exp(1.0, 0.97),
    s.Poly(1.0, 2, 80),
    s.Inv(1.0, 0.1, 1),
    s.Triangle(0.2, 1.0, 40),
    s.TriangleDecay2(0.0, 1.0, 40),
    s.TriangleExp(0.0, 1.0, 20, 0.98),
    s.Sin(0.2, 1.0, 40),
    s.SinDecay2(0.0, 1.0, 40),
    s.SinExp(0.0, 1.0, 20, 0.98),
    s.CosAnneal(0.0, 1.0, 40),
    s.CosAnneal(0.0, 1.0, 40, restart=False),
    s.OneCycle(100, 1.0),
    s.Warmup(s.Exp(1.0, 0.97), 20),
    s.Sequence((0.3, 20), (s.Exp(1.0, 0.95), 40), (0.1, 40)),
    s.Loop(s.Exp(1.0, 0.93), 25),
    s.Interpolator(s.Exp(1.0, 0.7), 10),
    s.Shifted(s.Triangle(0.0, 1.0, 40), 20),
    s.Reverse(s.Exp(1.0, 0.97), 100),
    s.Symmetric(s.Exp(1.0, 0.95), 100),
    s.ComposedSchedule(s.Sin, 0.0, s.Step(1.0, 0.6, 25), period=25),
]


def title(schedule):
    """The schedule as it is written, in two lines where it is long."""
    text = repr(schedule).replace("schedule=", "").replace("schedule_type=", "")
    middle = text.find(", ", len(text) // 2 - 4)
    return f"{text[: middle + 1]}\n{text[middle + 2 :]}" if len(text) > 36 and middle > 0 else text


def plot(path):
    figure, axes = plt.subplots(7, 3, figsize=(11, 13), sharex=True, sharey=True, layout="constrained")
    steps = np.arange(STEPS)
    for axis, schedule in zip(axes.flat, SCHEDULES, strict=True):
        values = schedule(steps)
        assert np.allclose(values, jax.jit(schedule.__call__)(steps), atol=1e-5), "a program computes the same"
        axis.step(steps, values, where="post", color="#3366cc")
        axis.set_title(title(schedule), fontsize=7)
        axis.set_ylim(-0.05, 1.05)
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output/schedules.png").resolve()
    plot(path)
    print(f"{len(SCHEDULES)} schedules in {path}")
