"""Ray Serve serves the graph."""

import os

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_SERVE_LOG_TO_STDERR="0")

import threading

from graph import LARGEST_BATCH, Graph, arguments
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Inference:
    def __init__(self, model: str, shape: str) -> None:
        self.graph = Graph(model, shape)

    @serve.batch(max_batch_size=LARGEST_BATCH, batch_wait_timeout_s=0.0)
    async def infer(self, bodies):
        return self.graph.infer(bodies)

    async def __call__(self, request: Request) -> Response:
        return Response(await self.infer(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    given = arguments()
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    serve.run(Inference.bind(given.model, given.shape))
    threading.Event().wait()
