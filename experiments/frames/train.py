"""Two networks learn to make the frame between two others; then they are measured and drawn.

python experiments/frames/train.py [FOLDER] [xvfi] [film]

Weights go to FOLDER (runs/frames), and are taken from there if they are there. With names of networks
only these are trained; without, results.csv and frames.png are written beside this file as well.
"""

from __future__ import annotations

import csv
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import torch
from matplotlib.figure import Figure
from motion import Triplets, places, textures, warp
from networks import FILM, XVFI, Interpolation, Made
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from nmfnet.plots import save

HERE = Path(__file__).parent
SIZE, TRAINED_ON, TESTED_ON, ROWS = 32, 3200, 200, 8
STEPS = {"xvfi": 3400, "film": 4200}
KINDS: dict[str, type[XVFI] | type[FILM]] = {"xvfi": XVFI, "film": FILM}
TIMES = {"xvfi": None, "film": 0.5}
"""When the frames between are, in training; None = at any time."""

WORDS = {"average": "average", "film": "FILM", "xvfi": "XVFI", "truth": "true flow"}


class Batches(IterableDataset[Triplets]):
    """Rows at random, turned and mirrored at random."""

    def __init__(self, triplets: Triplets, steps: int) -> None:
        self.triplets, self.steps = triplets, steps

    def __iter__(self) -> Iterator[Triplets]:
        rng = torch.Generator().manual_seed(0)
        for _ in range(self.steps):
            at = torch.randint(len(self.triplets.t), (ROWS,), generator=rng)
            rows = self.triplets.rows(at)
            turns, mirrored = torch.randint(4, (2,), generator=rng).tolist()
            before, after, between = (
                frames.rot90(turns, (2, 3)).flip(3) if mirrored > 1 else frames.rot90(turns, (2, 3))
                for frames in rows[:3]
            )
            yield rows._replace(
                before=before, after=after, between=between
            )  # no flow is learned from


@torch.enable_grad()
def trained(name: str, folder: Path) -> tuple[Interpolation, float]:
    """A network, and the CPU seconds of its training."""
    torch.manual_seed(0)
    steps = STEPS[name]
    network = KINDS[name](steps=steps)
    file = folder / f"{name}.pt"
    if file.is_file():
        kept = torch.load(file, weights_only=True)
        network.load_state_dict(kept["weights"])
        return network.eval(), kept["seconds"]
    began = time.process_time()
    batches = Batches(textures(TRAINED_ON, SIZE, seed=1, t=TIMES[name]), steps)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(network, DataLoader(batches, batch_size=None))
    seconds = time.process_time() - began
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"weights": network.state_dict(), "seconds": seconds}, file)
    return network.eval(), seconds


# ---------------------------------------------------------------------- numbers
def average(rows: Triplets) -> Made:
    """Both frames, as they are, by how near they are in time."""
    still = torch.zeros_like(rows.to0)
    return Made((1 - rows.t) * rows.before + rows.t * rows.after, still, still, [])


def moved(rows: Triplets) -> Made:
    """Both frames, moved by the true flows."""
    frame = (1 - rows.t) * warp(rows.before, rows.to0) + rows.t * warp(rows.after, rows.to1)
    return Made(frame, rows.to0, rows.to1, [])


def psnr(frame: Tensor, truth: Tensor) -> float:
    """Mean over frames, in dB; frames have a range of 1."""
    return float((-10 * torch.log10((frame - truth).square().mean((1, 2, 3)))).mean())


def endpoint_errors(flow: Tensor, truth: Tensor) -> Tensor:
    """Distance in pixels between where a flow leads and where it should, shape (n, h, w)."""
    return (flow - truth).square().sum(1).sqrt()


def seen(rows: Triplets) -> Tensor:
    """The pixels that are inside both frames, shape (n, h, w); of others the motion cannot be known."""
    inside = torch.ones_like(rows.between[:, 0], dtype=torch.bool)
    for flow in (rows.to0, rows.to1):
        at = places(flow) + flow
        largest = torch.tensor(at.shape[:1:-1]).view(1, 2, 1, 1) - 1
        inside &= ((at >= 0) & (at <= largest)).all(1)
    return inside


def row(name: str, rows: Triplets, made: Made, seconds: float, weights: int) -> dict[str, object]:
    """A line of the table: how near the frame and the flows are."""
    ours, simple = (psnr(frame, rows.between) for frame in (made.frame, average(rows).frame))
    errors = (endpoint_errors(made.to0, rows.to0) + endpoint_errors(made.to1, rows.to1)) / 2
    return {
        "way": name, "size": rows.before.shape[-1], "t": round(float(rows.t[0]), 2),
        "PSNR": round(ours, 2), "above average": round(ours - simple, 2),
        "flow error": round(float(errors.mean()), 3),
        "flow error, seen": round(float(errors[seen(rows)].mean()), 3),
        "weights": weights, "CPU s": round(seconds),
    }  # fmt: skip


# ---------------------------------------------------------------------- picture
def draw(rows: Triplets, made: dict[str, Made]) -> Figure:
    """A line per scene: the frames, what is made between them, the truth, and flows to the first."""
    n = len(rows.t)
    heads = ["first frame", *(WORDS[name] for name in made), "truth", "last frame"]
    flows = [name for name in made if name != "average"]
    heads += [f"flow, {WORDS[name]}" for name in flows] + ["true flow"]
    figure = Figure(figsize=(0.88 * len(heads), 0.9 * n + 0.25), layout="constrained")
    axes = figure.subplots(n, len(heads), squeeze=False)
    for i in range(n):
        frames = [rows.before, *(one.frame for one in made.values()), rows.between, rows.after]
        for axis, frame in zip(axes[i], frames, strict=False):
            axis.imshow(frame[i, 0], cmap="gray", vmin=-0.1, vmax=1.1)
        largest = float(rows.to0[i].square().sum(0).sqrt().max())
        for axis, flow in zip(
            axes[i][len(frames) :], [*(made[name].to0 for name in flows), rows.to0], strict=True
        ):
            axis.imshow(wheel(flow[i], largest))
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=7)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def wheel(flow: Tensor, largest: float) -> Tensor:
    """Colours: the direction is the hue, the length the saturation."""
    from matplotlib.colors import hsv_to_rgb

    hue = (torch.atan2(flow[1], flow[0]) / (2 * torch.pi)) % 1
    length = (flow.square().sum(0).sqrt() / largest).clamp_max(1)
    return torch.from_numpy(
        hsv_to_rgb(torch.stack([hue, length, torch.ones_like(hue)], -1).numpy())
    )


@torch.no_grad()
def main(folder: Path) -> None:
    """Train what is not there yet; then the table and the picture."""
    networks = {name: trained(name, folder) for name in KINDS}
    lines = []
    for size, t in ((SIZE, 0.5), (SIZE, 0.25), (2 * SIZE, 0.5)):
        rows = textures(TESTED_ON if size == SIZE else 50, size, seed=2, t=t)
        lines += [
            row("average", rows, average(rows), 0, 0),
            row("true flow", rows, moved(rows), 0, 0),
        ]
        for name, (network, seconds) in networks.items():
            if name == "film" and t != 0.5:
                continue
            made = network(rows.before, rows.after, rows.t)
            weights = sum(p.numel() for p in network.parameters())
            lines.append(row(WORDS[name], rows, made, seconds, weights))
    for line in lines:
        print(*line.values(), sep="\t")
    with (HERE / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    scenes = textures(2, 2 * SIZE, seed=3)
    ways: dict[str, Callable[[Triplets], Made]] = {"average": average}
    for name, (network, _) in networks.items():
        ways[name] = lambda rows, network=network: network(rows.before, rows.after, rows.t)
    figure = draw(scenes, {name: way(scenes) for name, way in ways.items()})
    save(figure, HERE / "frames.png")


if __name__ == "__main__":
    torch.set_num_threads(1)  # of frames so small a second one gains nothing
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    words = sys.argv[1:]
    chosen = [word for word in words if word in KINDS]
    where = Path(next((word for word in words if word not in KINDS), "runs/frames"))
    for word in chosen:
        print(word, f"{trained(word, where)[1]:.0f} CPU s")
    if not chosen:
        main(where)
