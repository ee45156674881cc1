"""mosec serves the graph."""

from __future__ import annotations

import sys

from graph import LARGEST_BATCH, Graph, arguments
from mosec import Server, Worker

GIVEN = arguments()
sys.argv = [sys.argv[0], "--port", str(GIVEN.port), "--log-level", "warning", "--max-request-size", "104857600"]


class Inference(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph(GIVEN.model, GIVEN.shape)

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        return self.graph.infer(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Inference,
        max_batch_size=LARGEST_BATCH,
        max_wait_time=1,  # ms, the least that it takes
        start_method="fork",  # spawned, it would read its command line, which is no longer ours
    )
    server.run()
