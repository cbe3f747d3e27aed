"""transformers' Trainer on a tiny BERT with random weights: which half of a text has more of a token?"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import wandb
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from parallel_hpo import ConfigLoader


class Texts(torch.utils.data.Dataset):
    def __init__(self, number, seed):
        self.tokens = torch.randint(1, 50, (number, 16), generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        small = self.tokens[index] < 25
        return {"input_ids": self.tokens[index], "labels": int(small[:8].sum() > small[8:].sum())}


def main():
    with wandb.init(config={"learning_rate": 1e-3}) as run:
        print("training with", dict(run.config))
        shape = BertConfig(
            vocab_size=50,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=16,
        )
        trainer = Trainer(
            model=BertForSequenceClassification(shape),
            args=TrainingArguments(
                output_dir=f"checkpoints/{run.id}",
                report_to="wandb",
                learning_rate=run.config.learning_rate,
                num_train_epochs=2,
                per_device_train_batch_size=32,
                logging_steps=10,
                eval_strategy="epoch",
                dataloader_num_workers=1,
                use_cpu=True,
            ),
            train_dataset=Texts(1000, seed=0),
            eval_dataset=Texts(200, seed=1),
        )
        trainer.train()
        losses = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
        Path("results").mkdir(exist_ok=True)
        Path("results", f"{run.id}.json").write_text(json.dumps({"eval/loss": losses[-1]}))


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)
