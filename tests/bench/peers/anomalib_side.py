"""Anomalib 2.7.0's side of `patchcore.py`: one request a line on stdin, one answer on stdout.

Runs in its own environment and imports nothing of ours. One thread everywhere.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ.update(
    OMP_NUM_THREADS="1",
    ORT_DISABLE_TELEMETRY="1",
    HF_HUB_OFFLINE="1",
    TRUST_REMOTE_CODE="1",  # its TorchInferencer unpickles: the file is the one that it wrote itself a moment ago
)
_ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what the libraries print is no answer

import numpy as np  # noqa: E402 - the environment above comes first
import torch  # noqa: E402 - the same

# torchvision's compiled part needs CUDA libraries; its two operators are never called, but their schemas are looked up
_SCHEMAS = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _SCHEMAS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import onnxruntime  # noqa: E402 - the schemas come first
from anomalib.data import Folder  # noqa: E402 - the same
from anomalib.deploy import ExportType, OpenVINOInferencer, TorchInferencer  # noqa: E402 - the same
from anomalib.engine import Engine  # noqa: E402 - the same
from anomalib.models import Patchcore  # noqa: E402 - the same
from anomalib.models.components import KCenterGreedy  # noqa: E402 - the same
from anomalib.pre_processing import PreProcessor  # noqa: E402 - the same
from lite0 import as_timm  # noqa: E402 - the same
from torch.export import Dim  # noqa: E402 - the same
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402 - the same

BACKBONE = "tf_efficientnet_lite0"
LAYERS = ("blocks.2", "blocks.4")  # our blocks 4 (40 channels) and 10 (112)
_MINIMUM_ROUND_S = 0.2
_MEMORY_BYTES = 12 << 30  # it shall fail here rather than take the machine with it


class Side:
    """What has been fitted and exported so far."""

    def fit(self, root: str, work: str, weights: str, size_px: int, bank: int) -> dict[str, float]:
        """Fit as its documentation does; keep the features that it was fitted on."""
        self.work = Path(work)
        normalise = Normalize(mean=[0.5] * 3, std=[0.5] * 3)
        resize = Resize((size_px, size_px), antialias=True)
        good, bad = "test/good", sorted(path.name for path in (Path(root) / "test").iterdir() if path.name != "good")
        data = Folder(
            name="peer",
            root=root,
            normal_dir="train/good",
            normal_test_dir=good,
            abnormal_dir=[f"test/{kind}" for kind in bad],
            num_workers=0,
            augmentations=resize,  # images of one folder may differ in size, and a batch may not
            val_split_mode="same_as_test",
        )
        patches = (size_px // 8) ** 2
        images = len(list((Path(root) / "train" / "good").iterdir()))
        module = Patchcore(
            backbone=BACKBONE,
            layers=LAYERS,
            pre_trained=False,
            coreset_sampling_ratio=(bank + 0.5) / (images * patches),
            pre_processor=PreProcessor(Compose([resize, normalise])),
            visualizer=False,
        )
        network = module.model.feature_extractor.feature_extractor
        missing, _ = network.load_state_dict(as_timm(torch.load(weights, weights_only=True)), strict=False)
        assert all(name.endswith("num_batches_tracked") for name in missing), missing
        spent = {}
        subsample = module.model.subsample_embedding

        def timed_subsample(sampling_ratio: float) -> None:
            np.save(self.work / "train.npy", torch.vstack(module.model.embedding_store).numpy())
            _say(f"coreset of {bank} of {images * patches} …")
            cpu, user = time.process_time(), os.times().user
            spent["features_s"] = cpu - began
            subsample(sampling_ratio)
            spent["coreset_s"], spent["coreset_user_s"] = time.process_time() - cpu, os.times().user - user
            self.vectors = torch.from_numpy(np.load(self.work / "train.npy"))

        module.model.subsample_embedding = timed_subsample
        engine = Engine(accelerator="cpu", devices=1, default_root_dir=self.work / "runs", enable_progress_bar=False)
        _say(f"features of {images} images …")
        began = time.process_time()
        engine.fit(module, datamodule=data)
        spent["fit_s"] = time.process_time() - began
        del module.model.subsample_embedding
        assert len(module.model.memory_bank) == bank, len(module.model.memory_bank)
        self.module, self.engine = module.eval(), engine
        return spent

    def sample(self, bank: int) -> dict[str, float]:
        """Return what the whole coreset costs by a part of it: each centre costs the same."""
        few, many = 10, 110
        times = []
        for centres in (few, many):
            sampler = KCenterGreedy(self.vectors, (centres + 0.5) / len(self.vectors))
            cpu = time.process_time()
            sampler.select_coreset_idxs()
            times.append(time.process_time() - cpu)
        each = (times[1] - times[0]) / (many - few)
        return {"coreset_s": times[0] + (bank - few) * each}

    def judge(self, frames: str, size_px: int) -> dict[str, list[float]]:
        """Keep the features of test frames (a list of .npy, RGB); score them by the paper's weight and plainly."""
        model, transform = self.module.model, self.module.pre_processor.transform
        weighted, plain, kept = [], [], []
        with torch.inference_mode():
            for path in json.loads(Path(frames).read_text()):
                image = torch.from_numpy(np.load(path)).permute(2, 0, 1)[None].float() / 255.0
                features = {
                    name: model.feature_pooler(x) for name, x in model.feature_extractor(transform(image)).items()
                }
                embedding = model.reshape_embedding(model.generate_embedding(features))
                scores, places = model.nearest_neighbors(embedding, 1)
                scores, places = scores.reshape(1, -1), places.reshape(1, -1)
                weighted.append(float(model.compute_anomaly_score(scores, places, embedding)))
                plain.append(float(scores.max()))
                kept.append(embedding.numpy().reshape(size_px // 8, size_px // 8, -1))
        np.save(self.work / "test.npy", np.stack(kept))
        return {"weighted": weighted, "plain": plain}

    def export(self, batches: list[int], frame_px: list[int] | None) -> dict[str, str]:
        """Export for each batch size, and load; say of each way that fails why, and what the default export takes."""
        torch_path = self.engine.export(self.module, ExportType.TORCH, export_root=self.work)
        self.ways, refused = {}, {}
        self._keep("torch", batches, lambda _: self._torch(torch_path), refused)
        onnx, openvino = {}, {}
        for batch in batches:
            _say(f"exporting to ONNX and OpenVINO for batch {batch} …")
            free = {} if frame_px else {2: Dim("height"), 3: Dim("width")}
            shapes = {"dynamic_shapes": ({0: Dim.STATIC if batch == 1 else batch, **free},)}
            exact = {"dynamic_axes": {}} if batch == 1 and frame_px else shapes
            size = {"input_size": tuple(frame_px)} if frame_px else {}
            onnx[batch] = self.module.to_onnx(self.work / f"batch{batch}", **size, **exact)
            openvino[batch] = self.module.to_openvino(self.work / f"batch{batch}", **size, onnx_kwargs=exact)
        self._keep("onnx", batches, lambda batch: self._onnx(onnx[batch]), refused)
        self._keep("openvino", batches, lambda batch: self._openvino(openvino[batch], {}), refused)
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        self._keep("openvino_f32", batches, lambda batch: self._openvino(openvino[batch], exact), refused)
        _say("exporting to ONNX as its documentation does …")
        run = self._onnx(self.engine.export(self.module, ExportType.ONNX, export_root=self.work))
        for batch in (1, 2, 16):
            try:
                run(np.zeros((batch, 256, 256, 3), np.uint8))
            except Exception as error:  # noqa: BLE001 - whatever a peer raises is its answer
                refused[f"default export at batch {batch} of 256x256"] = _first_line(error)
        return refused

    def scores(self, way: str, frames: str) -> list[float]:
        """Score frames one by one, as exported: with its thresholds and clamping inside."""
        return [float(self.ways[way, 1](np.load(path)[None])[0]) for path in json.loads(Path(frames).read_text())]

    def time(self, way: str, frames: str) -> dict[str, float]:
        """Return CPU and wall ms of one call on a batch (N, H, W, 3), over some calls."""
        batch = np.load(frames)
        run = self.ways[way, len(batch)]
        calls, wall, cpu = 0, time.perf_counter(), time.process_time()
        while calls < 1 or time.perf_counter() - wall < _MINIMUM_ROUND_S:
            run(batch)
            calls += 1
        took, spent = time.perf_counter() - wall, time.process_time() - cpu
        return {"cpu_ms": spent / calls * 1e3, "wall_ms": took / calls * 1e3}

    def _keep(self, way, batches, make, refused):
        """Keep what `make` returns for each batch size, after a first call; or why there is none."""
        for batch in batches:
            try:
                run = make(batch)
                got = run(np.load(self.work / f"batch{batch}.npy"))
                assert len(got) == batch, f"{batch} images in, {len(got)} scores out"
            except Exception as error:  # noqa: BLE001 - whatever a peer raises is its answer
                refused[f"{way} at batch {batch}"] = _first_line(error)
            else:
                self.ways[way, batch] = run

    def _torch(self, path):
        inferencer = TorchInferencer(path, device="cpu")

        def run(batch):
            images = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255.0
            with torch.inference_mode():  # it does not do so itself: in its favour
                return inferencer.predict(images).pred_score.reshape(-1).numpy()

        return run

    def _onnx(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        source = session.get_inputs()[0].name

        def run(batch):
            outputs = session.run(names, {source: OpenVINOInferencer.pre_process(batch)})
            return outputs[names.index("pred_score")].reshape(-1)

        return run

    def _openvino(self, path, precision):
        config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, **precision}
        inferencer = OpenVINOInferencer(path, device="CPU", config=config)
        return lambda batch: np.asarray(inferencer.predict(batch).pred_score).reshape(-1)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}"


def _say(text: str) -> None:
    sys.stderr.write(f"anomalib: {text}\n")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    side = Side()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(side, request.pop("do"))(**request)
        _ANSWERS.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
