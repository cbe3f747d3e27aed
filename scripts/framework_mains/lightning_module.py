"""Lightning with its WandbLogger."""

from __future__ import annotations

import json
from pathlib import Path

import lightning
import torch
import wandb
from lightning.pytorch.loggers import WandbLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from parallel_hpo import ConfigLoader


class Classifier(lightning.LightningModule):
    def __init__(self, lr, width):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch, _):
        loss = nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, _):
        self.log("val/loss", nn.functional.cross_entropy(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def main():
    run = wandb.init(config={"lr": 0.01, "width": 32})
    print("training with", dict(run.config))
    images, digits = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits))
    train, valid = random_split(data, [0.8, 0.2])
    trainer = lightning.Trainer(max_epochs=5, accelerator="cpu", logger=WandbLogger(), log_every_n_steps=10)
    trainer.fit(
        Classifier(run.config.lr, run.config.width),
        DataLoader(train, batch_size=64, shuffle=True, num_workers=1, persistent_workers=True),
        DataLoader(valid, batch_size=64),
    )
    loss = trainer.callback_metrics["val/loss"].item()
    Path("results").mkdir(exist_ok=True)
    Path("results", f"{run.id}.json").write_text(json.dumps({"val/loss": loss}))
    wandb.finish()


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)
