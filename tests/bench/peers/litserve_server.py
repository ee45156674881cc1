"""LitServe serves the graph."""

from typing import Annotated  # no `annotations` of the future: FastAPI reads them where LitServe made them

import litserve
from fastapi import Body, Response
from graph import LARGEST_BATCH, Graph, arguments


class Inference(litserve.LitAPI):
    def __init__(self, given) -> None:
        super().__init__(max_batch_size=LARGEST_BATCH, batch_timeout=0.0)
        self.given = given

    def setup(self, device) -> None:  # noqa: ARG002 - LitServe passes it
        self.graph = Graph(self.given.model, self.given.shape)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> bytes:
        return request

    def batch(self, inputs):
        return inputs

    def predict(self, inputs):
        return self.graph.infer(inputs)

    def unbatch(self, output):
        return output

    def encode_response(self, output) -> Response:
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    given = arguments()
    server = litserve.LitServer(Inference(given), accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=given.port, num_api_servers=1, log_level="warning", generate_client_file=False)
