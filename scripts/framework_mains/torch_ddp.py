"""PyTorch DDP over gloo: two processes train one model, and the first of them has the W&B run."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import wandb
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from parallel_hpo import ConfigLoader


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train(rank, world_size, port):
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    run = wandb.init(config={"lr": 0.5}) if rank == 0 else None
    settings = [dict(run.config) if run else None]
    dist.broadcast_object_list(settings, src=0)
    print(f"rank {rank}: training with {settings[0]}", flush=True)
    images, digits = load_digits(return_X_y=True)
    mine = slice(rank, None, world_size)
    images = torch.tensor(images[mine] / 16, dtype=torch.float32)
    digits = torch.tensor(digits[mine])
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=settings[0]["lr"])
    for step in range(300):
        loss = nn.functional.cross_entropy(model(images), digits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        if run and step % 10 == 9:
            run.log({"step": step, "loss": mean.item() / world_size})
    if run:
        Path("results").mkdir(exist_ok=True)
        Path("results", f"{run.id}.json").write_text(json.dumps({"loss": mean.item() / world_size}))
        run.finish()
    dist.destroy_process_group()


def main():
    mp.spawn(train, args=(2, free_port()), nprocs=2)


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)
