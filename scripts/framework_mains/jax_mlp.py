"""JAX: a small network, compiled and differentiated by hand."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import wandb
from sklearn.datasets import load_digits

from parallel_hpo import ConfigLoader


def loss_of(weights, images, digits):
    hidden = jax.nn.relu(images @ weights["in"])
    scores = jax.nn.log_softmax(hidden @ weights["out"])
    return -jnp.mean(scores[jnp.arange(len(digits)), digits])


@jax.jit
def step(weights, images, digits, lr):
    loss, slopes = jax.value_and_grad(loss_of)(weights, images, digits)
    return loss, jax.tree.map(lambda weight, slope: weight - lr * slope, weights, slopes)


def main():
    with wandb.init(config={"lr": 0.5}) as run:
        print("training with", dict(run.config))
        images, digits = load_digits(return_X_y=True)
        images, digits = jnp.array(images / 16), jnp.array(digits)
        first, second = jax.random.split(jax.random.key(0))
        weights = {
            "in": 0.1 * jax.random.normal(first, (64, 64)),
            "out": 0.1 * jax.random.normal(second, (64, 10)),
        }
        for number in range(2000):
            loss, weights = step(weights, images, digits, run.config.lr)
            if number % 100 == 99:
                run.log({"step": number, "loss": float(loss)})
        Path("results").mkdir(exist_ok=True)
        Path("results", f"{run.id}.json").write_text(json.dumps({"loss": float(loss)}))


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)
