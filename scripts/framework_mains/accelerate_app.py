"""A program for `accelerate launch`: two processes on the CPU, tracked by Accelerate's own W&B tracker."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    options = parser.parse_args()

    accelerator = Accelerator(log_with="wandb", cpu=True)
    accelerator.init_trackers("digits", config=vars(options))
    accelerator.print("training with", options, flush=True)
    images, digits = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits))
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model, optimizer, loader = accelerator.prepare(
        model,
        torch.optim.SGD(model.parameters(), lr=options.lr),
        DataLoader(data, batch_size=32, shuffle=True),
    )
    for epoch in range(6):
        for images, digits in loader:
            loss = nn.functional.cross_entropy(model(images), digits)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        mean = accelerator.gather(loss.detach()[None]).mean().item()
        accelerator.log({"loss": mean}, step=epoch)
    if accelerator.is_main_process:
        run = accelerator.get_tracker("wandb", unwrap=True)
        Path("results").mkdir(exist_ok=True)
        Path("results", f"{run.id}.json").write_text(json.dumps({"loss": mean}))
    accelerator.end_training()


if __name__ == "__main__":
    main()
