"""roboflow inference's pipeline (its InferencePipeline lives in streamvision) runs the graph on one source.

It takes frames from cameras and files, from no network: here one connection is its source and its sink. One source is
never batched; frames come and go in order.
"""

from __future__ import annotations

import socket

import numpy as np
from graph import Graph, arguments
from streamvision.camera.entities import SourceProperties, VideoFrameProducer
from streamvision.stream.pipeline import InferencePipeline


class Connection(VideoFrameProducer):
    """Frames of one size, one after the other."""

    def __init__(self, connection: socket.socket, shape: tuple[int, ...]) -> None:
        self._connection, self._shape, self._open = connection, shape, True

    def grab(self) -> bool:
        self._frame = np.empty(self._shape, np.uint8)
        room = memoryview(self._frame).cast("B")
        while room:
            size = self._connection.recv_into(room)
            if not size:
                self._open = False
                return False
            room = room[size:]
        return True

    def retrieve(self):
        return True, self._frame

    def isOpened(self) -> bool:  # noqa: N802 - the name that it asks for
        return self._open

    def release(self) -> None:
        self._open = False

    def discover_source_properties(self) -> SourceProperties:
        height, width, _ = self._shape
        return SourceProperties(
            width=width, height=height, total_frames=-1, is_file=True, fps=1000.0
        )  # a file loses none


def main() -> None:
    given = arguments()
    graph = Graph(given.model, given.shape)
    shape = tuple(int(side) for side in given.shape.split(","))
    with socket.create_server(("127.0.0.1", given.port)) as server:
        connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=lambda: Connection(connection, shape),
        on_video_frame=lambda frames: graph.infer([frame.image.tobytes() for frame in frames]),
        on_prediction=lambda answer, _frame: connection.sendall(answer),
    )
    pipeline.start()
    pipeline.join()


if __name__ == "__main__":
    main()
