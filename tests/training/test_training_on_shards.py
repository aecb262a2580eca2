"""Training on more shards than fit on the disk: each is fetched once an epoch, a few at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import data, runs
from workbench.data import batches
from workbench.data.io import remote
from workbench.data.writers.webdataset import write_webdataset
from workbench.evaluation.sources import open_training_set

SHARDS = 12


def test_each_shard_is_fetched_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 1, 1, 3))
    identities = np.arange(96) % 4
    pixels = np.broadcast_to(colours[identities], (96, 32, 32, 3)).astype(np.uint8)
    write_webdataset(
        data.Dataset("colours", pixels, identities, list("abcd")),
        tmp_path / "set",
        progress=False,
        images_a_shard=96 // SHARDS,
    )
    script, log = tmp_path / "get.sh", tmp_path / "log"
    script.write_text(f'echo "$1" >> {log}; cat {tmp_path}/set/"$1"\n')
    size = (tmp_path / "set" / "set-000000.tar").stat().st_size
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(remote.ROOM, str(4.5 * size / 1e9))
    monkeypatch.setattr(remote, "OPEN", 4)
    monkeypatch.setattr(batches, "KEPT_BYTES", 0)
    monkeypatch.chdir(tmp_path)
    shards = f"set-{{000000..{SHARDS - 1:06d}}}.tar"
    spec = f"webdataset:pipe:sh {script} {shards},index={tmp_path / 'set' / 'index.npz'}"
    run = wb.train(
        {
            "data": spec,
            "backbone": "smallresnet",
            "image_size": 16,
            "backbone_options": {"width": 8},
            "embedding_dim": 8,
            "loss": "arcface",
            "epochs": 2,
            "batch_size": 8,
            "lr": 0.03,
            "device": "cpu",
            "workers": 0,
            "log_every": 1,
        },
        progress=False,
    )
    assert run.state == "finished"
    assert len(run.metrics()) == 24
    asked = log.read_text().splitlines()
    assert len(set(asked)) == SHARDS
    assert SHARDS < len(asked) <= 2 * SHARDS
    assert (
        sum(file.stat().st_size for file in (tmp_path / "cache" / "shards").iterdir()) <= 6 * size
    )


def test_a_strangers_run_has_no_command_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    config = {
        "data": f"webdataset:pipe:touch {tmp_path}/hello; echo a.tar",
        "backbone": "smallresnet",
        "loss": "arcface",
    }
    run = runs.create(tmp_path, "stranger", config)
    # Both are read before the data are opened.
    torch.save({"step": 1, "metrics_bytes": 0}, run.path / runs.CHECKPOINT)
    runs.write_json(run.path / runs.ENVIRONMENT, {"data": {"fingerprint": "0"}})
    for use in (lambda: wb.train(resume=run, progress=False), lambda: open_training_set(run)):
        with pytest.raises(wb.WorkbenchError, match="nobody typed this command"):
            use()
    assert not (tmp_path / "hello").exists()
