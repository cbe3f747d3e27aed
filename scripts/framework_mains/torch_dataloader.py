"""PyTorch: a small network, whose data are loaded by two persistent processes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import wandb
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

from parallel_hpo import ConfigLoader


class Digits(Dataset):
    def __init__(self):
        self.images, self.digits = load_digits(return_X_y=True)

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        image = torch.tensor(self.images[index] / 16, dtype=torch.float32)
        return image + 0.05 * torch.randn(64), int(self.digits[index])


def main():
    run = wandb.init(config={"lr": 0.1, "width": 32})
    print("training with", dict(run.config))
    loader = DataLoader(Digits(), batch_size=64, shuffle=True, num_workers=2, persistent_workers=True)
    model = nn.Sequential(nn.Linear(64, run.config.width), nn.ReLU(), nn.Linear(run.config.width, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=run.config.lr)
    for epoch in range(20):
        total = 0.0
        for images, digits in loader:
            loss = nn.functional.cross_entropy(model(images), digits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(loader)
        print(f"epoch {epoch}: loss {total:.4f}")
        run.log({"epoch": epoch, "loss": total})
    Path("results").mkdir(exist_ok=True)
    Path("results", f"{run.id}.json").write_text(json.dumps({"loss": total}))


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)
