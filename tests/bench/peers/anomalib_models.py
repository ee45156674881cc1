"""Anomalib 2.7.0's side of `tests/bench/beside.py`: one model, learnt and asked, in its own environment.

`python anomalib_models.py MODEL IMAGES SIZE_PX BANK WEIGHTS OUT` reads IMAGES (JSON: paths of `train` and `test`),
writes OUT.npz (scores and maps of the test images) and prints a JSON line. One thread; imports nothing of ours. Its
models, losses and optimisers are its own, the loop around them is this file's: no trainer, no validation, no clamping.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

os.environ.update(OMP_NUM_THREADS="1", ORT_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1")
_ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what the libraries print is no answer

import cv2  # noqa: E402 - the environment above comes first
import numpy as np  # noqa: E402 - the same
import torch  # noqa: E402 - the same

# torchvision's compiled part needs CUDA libraries; its two operators are never called, but their schemas are looked up
_SCHEMAS = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _SCHEMAS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import onnxruntime  # noqa: E402 - the schemas come first
import timm  # noqa: E402 - the same
from anomalib.models import (  # noqa: E402 - the same
    Cfa,
    Dfkde,
    Dfm,
    Fre,
    Padim,
    Patchcore,
    ReverseDistillation,
    Stfpm,
    Supersimplenet,
)
from anomalib.models.components import TimmFeatureExtractor  # noqa: E402 - the same
from anomalib.pre_processing import PreProcessor  # noqa: E402 - the same
from lite0 import as_timm  # noqa: E402 - the same
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402 - the same

BACKBONE = "tf_efficientnet_lite0"
LAYERS = ["blocks.2", "blocks.4"]  # our taps 4 (40 channels) and 10 (112)
EPOCHS = {"stfpm": 100, "fre": 220, "supersimplenet": 300}  # as its documentation has them, but no more images than:
MOST_IMAGES = {
    "stfpm": 1600,
    "fre": 7500,
    "supersimplenet": 3400,
}  # as many as ours looks at
BATCH = 32  # its data modules' default
_MEMORY_BYTES = 12 << 30  # it shall fail here rather than take the machine with it


def module_of(name: str, size_px: int, sampling: float):
    """Return a model as its documentation makes it, on our backbone; what it takes besides is its default."""
    normalise = Normalize(mean=[0.5] * 3, std=[0.5] * 3)
    common = {
        "pre_processor": PreProcessor(Compose([Resize((size_px, size_px), antialias=True), normalise])),
        "post_processor": False,
        "evaluator": False,
        "visualizer": False,
    }
    plain = {"backbone": BACKBONE, "pre_trained": False, **common}
    side = size_px // 16 // 2
    makers = {
        "patchcore": lambda: Patchcore(layers=LAYERS, coreset_sampling_ratio=sampling, **plain),
        "padim": lambda: Padim(layers=LAYERS, n_features=100, **plain),
        "dfm": lambda: Dfm(layer="blocks.4", **plain),
        "dfkde": lambda: Dfkde(layers=["blocks.6"], **plain),
        "fre": lambda: Fre(layer="blocks.4", input_dim=112 * side * side, **plain),
        "stfpm": lambda: Stfpm(layers=["blocks.2", "blocks.4", "blocks.6"], backbone=BACKBONE, **common),
        "cfa": lambda: Cfa(backbone=BACKBONE, **common),
        "reverse_distillation": lambda: ReverseDistillation(layers=LAYERS, **plain),
        "supersimplenet": lambda: Supersimplenet(backbone=BACKBONE, layers=LAYERS, **common),
    }
    return makers[name]()


def fit(module, name: str, batches, sampling: float) -> None:
    """Learn as its training step does."""
    model = module.model.train()
    for part in model.modules():
        if isinstance(part, TimmFeatureExtractor) and part is not getattr(model, "student_model", None):
            part.eval()
    if name not in EPOCHS:
        with torch.no_grad():
            for batch in batches(shuffle=False):
                model(batch)
            model.subsample_embedding(sampling) if name == "patchcore" else model.fit()
        return
    seen, each = 0, sum(len(batch) for batch in batches(shuffle=False))
    epochs = min(EPOCHS[name], max(1, MOST_IMAGES[name] // each))
    module._trainer = SimpleNamespace(max_epochs=epochs)  # of a trainer, all that is asked for
    made = module.configure_optimizers()
    (optimiser,), (schedule,) = made if isinstance(made, tuple) else ([made], [None])
    for _ in range(epochs):
        for batch in batches(shuffle=True):
            if name == "stfpm":
                loss = module.loss(*model(batch))
            elif name == "supersimplenet":
                found, score, masks, labels = model(batch, None, torch.zeros(len(batch)))
                loss = module.loss(pred_map=found, pred_score=score, target_mask=masks, target_label=labels)
            else:
                known, restored, _shape = model.get_features(batch)
                loss = module.loss_fn(known, restored)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen += len(batch)
        if schedule is not None:
            schedule.step()
    sys.stderr.write(f"{seen} images seen\n")


def main() -> None:
    name, images, size, bank, weights, out = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size_px, wanted = int(size), json.loads(Path(images).read_text())
    create = timm.create_model
    timm.create_model = lambda *args, **options: create(*args, **{**options, "pretrained": False})
    sampling = (int(bank) + 0.5) / (len(wanted["train"]) * (size_px // 8) ** 2)
    module = module_of(name, size_px, sampling)
    teacher = getattr(module.model, "teacher_model", None) or module.model.feature_extractor
    while hasattr(teacher.feature_extractor, "feature_extractor"):
        teacher = teacher.feature_extractor
    state = as_timm(torch.load(weights, weights_only=True))
    missing, _ = teacher.feature_extractor.load_state_dict(state, strict=False)
    assert all(key.endswith("num_batches_tracked") for key in missing), missing
    transform = module.pre_processor.transform

    began = time.process_time()
    frames = [transform(as_input(read(path))) for path in wanted["train"]]

    def batches(*, shuffle: bool):
        order = torch.randperm(len(frames)) if shuffle else torch.arange(len(frames))
        for places in order.split(BATCH):
            yield torch.cat([frames[int(place)] for place in places])

    fit(module, name, batches, sampling)
    answer: dict[str, object] = {"fit_cpu_s": time.process_time() - began}
    module.eval()
    scores, maps = [], []
    with torch.inference_mode():
        for path in wanted["test"]:
            found = module.model(transform(as_input(read(path))))
            scores.append(float(found.pred_score))
            maps.append(np.zeros((1, 1)) if found.anomaly_map is None else found.anomaly_map.squeeze().numpy())
    np.savez(out, scores=np.array(scores), maps=np.stack(maps).astype(np.float32))
    one = read(wanted["test"][0])
    answer["torch_ms"] = [timed_ms(module, np.repeat(one, batch, 0), batch) for batch in (1, 16)]
    try:
        answer["onnx_ms"] = [exported_ms(module, np.repeat(one, batch, 0), batch, Path(out)) for batch in (1, 16)]
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its answer
        answer["onnx_why"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
    _ANSWERS.write(json.dumps(answer) + "\n")


def read(path: str) -> np.ndarray:
    """Return a frame (1, H, W, 3), RGB, of uint8."""
    return cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)[None]


def as_input(frames: np.ndarray) -> torch.Tensor:
    """Return frames as its models take them: (N, 3, H, W), 0 to 1."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().float() / 255.0


def timed_ms(module, frames: np.ndarray, batch: int) -> float:
    """Return processor time an image, frames in and scores out."""
    with torch.inference_mode():
        return least_ms(lambda: module.model(module.pre_processor.transform(as_input(frames))), batch)


def exported_ms(module, frames: np.ndarray, batch: int, folder: Path) -> float:
    """Return the same of its export to ONNX, with the size and the batch fixed, on one thread."""
    shapes = {"dynamic_axes": {}} if batch == 1 else {"dynamic_shapes": ({0: batch},)}
    path = module.to_onnx(folder.parent / f"{folder.stem}{batch}", input_size=frames.shape[1:3], **shapes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    return least_ms(lambda: session.run(None, {source: as_input(frames).numpy()}), batch)


def least_ms(call, batch: int) -> float:
    """Return the median of processor times an image, over some calls after a first."""
    call()
    times = []
    for _ in range(15 if batch == 1 else 3):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return median(times) / batch * 1e3


if __name__ == "__main__":
    main()
