#!/usr/bin/env python3
"""Logs a run to an experiment tracker: reads the events of `longhand run --json` from stdin.

    longhand run instructions.jsonl -o corpus --model model.gguf --json | python3 log_events.py --to wandb
    longhand run instructions.jsonl -o corpus --model model.gguf --json | python3 log_events.py --to mlflow
    longhand run instructions.jsonl -o corpus --model model.gguf --json | python3 log_events.py --to csv > progress.csv

W&B needs `pip install wandb`, MLflow `pip install mlflow`; csv needs nothing. Each reads its own environment variables, such as
WANDB_MODE=offline and MLFLOW_TRACKING_URI.
"""

import argparse
import csv
import json
import sys


def flat(value, name=""):
    """The numbers in nested objects, by their names joined with dots."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value


class Wandb:
    def start(self, config):
        import wandb

        self.run = wandb.init(project="longhand", name=config["run"], config=config)

    def log(self, seconds, metrics):
        self.run.log(metrics, step=seconds)

    def end(self, summary):
        self.run.summary.update(summary)
        self.run.finish()


class Mlflow:
    def start(self, config):
        import mlflow

        self.mlflow = mlflow
        mlflow.set_experiment("longhand")
        mlflow.start_run(run_name=config["run"])
        mlflow.log_params(config)

    def log(self, seconds, metrics):
        self.mlflow.log_metrics(metrics, step=seconds)

    def end(self, summary):
        self.mlflow.log_metrics({f"summary.{name}": value for name, value in summary.items()})
        self.mlflow.end_run()


class Csv:
    def start(self, config):
        self.writer = None

    def log(self, seconds, metrics):
        if self.writer is None:
            self.writer = csv.DictWriter(sys.stdout, ["seconds", *metrics], extrasaction="ignore")
            self.writer.writeheader()
        self.writer.writerow({"seconds": seconds, **metrics})

    def end(self, summary):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", choices=["wandb", "mlflow", "csv"], required=True)
    tracker = {"wandb": Wandb, "mlflow": Mlflow, "csv": Csv}[parser.parse_args().to]()
    for line in sys.stdin:
        event = json.loads(line)
        kind = event.pop("event")
        if kind == "started":
            config = {name: event[name] for name in ("run", "documents", "recipe", "recipe_hash")}
            tracker.start({**config, **{f"model.{name}": value for name, value in event["model"].items()}})
        elif kind == "progress":
            # What is not known yet is null: it is left out, and named once it is known.
            names = ("done", "tokens", "tokens_per_second", "sections", "running")
            metrics = dict(flat({name: event[name] for name in ("counts", *names)}))
            tracker.log(event["elapsed_s"], metrics)
        elif kind == "finished":
            tracker.end(dict(flat(event["stats"])))


if __name__ == "__main__":
    main()
