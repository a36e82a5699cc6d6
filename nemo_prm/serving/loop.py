# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The one serving loop: rank 0 answers requests through PyTriton, the other ranks follow its commands.

    serve([ServedModel(GENERATION, infer, ...)], config.server, commands={Op.FORWARD: follower_step})

Rank 0 runs `infer` and, before each collective, tells the others what is coming with `announce(Op.FORWARD)`; they run
the command of that name. SIGTERM and SIGINT drain: no new requests, those in flight are answered, Triton and every
rank end, and `serve` returns.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from enum import IntEnum
from types import FrameType
from typing import Any, Callable, Iterator, Mapping, Sequence

from nemo_prm.config import ServerConfig
from nemo_prm.errors import RequestError, ServerError
from nemo_prm.serving.metrics import ServerMetrics
from nemo_prm.serving.triton import TritonProcess, check_address, error_response
from nemo_prm.serving.wire import Arrays, ModelSpec

LOGGER = logging.getLogger(__name__)
# On a machine that stands still for seconds Triton takes a busy stub for dead, and may fail as it replaces it; seen
# with PyTriton 0.7.0, and in issue 8882 of github.com/triton-inference-server/server.
MAX_DEATHS, DEATHS_WINDOW_S = 3, 3600.0
TRIM_INTERVAL_S = 5.0  # of giving memory that the allocator keeps back to the system: it takes 20 ms
IDLE_INTERVAL_S = 60.0  # well below the 10 (NCCL) and 30 minutes (gloo) after which a waiting rank gives up


_libc = ctypes.CDLL(None)


class Op(IntEnum):
    """Commands of rank 0 to the other ranks; the first four are NeMo-Aligner's `ServerSignal`."""

    FORWARD = 1
    TRAIN = 2
    INVALID = 3
    SAVE = 4
    STOP = 5
    IDLE = 6
    LOAD = 7
    SCORE = 8


Commands = Mapping[int, Callable[[], Any]]


@dataclass(frozen=True)
class ServedModel:
    """A model function and how PyTriton feeds it.

    Attributes:
        spec: name and tensors.
        infer: answers a batch: a list of what `read` returned in, one dict of output arrays per item out. An item may
            also be a `RequestError`, which is then that request's answer. Never runs twice at a time, see `instances`.
        read: checks one request's inputs and returns what `infer` takes; its `RequestError` answers that request and
            leaves the rest of the batch alone. None hands PyTriton's own `Request` over (the host's servers).
        warm_up: inputs of a request that is answered before the server reports that it is ready.
        max_batch: rows of the largest request, and of the largest batch the dynamic batcher makes.
        batch_delay_us: how long a request may wait for others to share its batch, in microseconds.
        max_queue: requests that may wait; one more is refused (HTTP 503).
        batching: False for functions whose inputs have no batch dimension (the host's `critic_train`).
        check: where `read` is None: its `RequestError` answers a request whose inputs are bad.
        info: what a client may want to know of the model; Triton shows it in the model's config.
        counters: numbers that only grow, which `infer` keeps; the metrics show them.
        instances: batches answered at a time. Over 1 `infer` runs in as many threads, and must concern rank 0 alone.
    """

    spec: ModelSpec
    infer: Callable[[list[Any]], Sequence[Any]]
    read: Callable[[Arrays], Any] | None = None
    warm_up: Arrays | None = None
    max_batch: int = 1024
    batch_delay_us: int = 0
    max_queue: int = 4096
    batching: bool = True
    check: Callable[[Arrays], None] | None = None
    info: Mapping[str, str] | None = None
    counters: Mapping[str, int] | None = None
    instances: int = 1


def _distributed() -> Any:
    """`torch.distributed` where several ranks run; None in a single process (which may lack torch altogether)."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    return torch.distributed if torch.distributed.get_world_size() > 1 else None


def _op_tensor(op: Op) -> Any:
    import torch

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    return torch.tensor([int(op)], dtype=torch.int64, device=device)


def announce(op: Op) -> None:
    """Tell the other ranks what comes next; does nothing in a single process."""
    distributed = _distributed()
    if distributed is not None:
        distributed.broadcast(_op_tensor(op), 0)


def follow(commands: Commands) -> None:
    """Run rank 0's commands until it says STOP; the loop of every other rank."""
    distributed = _distributed()
    while True:
        tensor = _op_tensor(Op.INVALID)
        distributed.broadcast(tensor, 0)
        op = Op(int(tensor.item()))
        if op == Op.STOP:
            return
        if op == Op.IDLE:
            continue
        if op not in commands:
            raise ServerError(f"rank {distributed.get_rank()} was told {op.name}, which this server does not know")
        commands[op]()


def serve(models: Sequence[ServedModel], config: ServerConfig, commands: Commands | None = None) -> None:
    """Serve until SIGTERM or SIGINT; returns on every rank.

    Args:
        models: what rank 0 answers.
        config: address, token and patience.
        commands: what the other ranks do, by `Op`; not needed in a single process.

    Raises:
        ServerError: the address is taken, Triton cannot start or ends, or a model fails on its warm-up batch or
            leaves the ranks out of step.
    """
    distributed = _distributed()
    if distributed is not None and distributed.get_rank() != 0:
        with _stop_signals():  # a launcher signals all ranks; these wait for rank 0 to drain and say STOP
            follow(commands or {})
        return
    loop = _Loop(config)
    check_address(config)
    for model in models:
        loop.warm_up(model)
    gc.collect()
    gc.freeze()  # a full collection over all that the imports have left would hold up a request for half a second
    loop.run(models)
    announce(Op.STOP)  # not after an error: the other ranks may be inside a collective, and end with the launcher


class _Loop:
    """Rank 0."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.lock = threading.Lock()  # one batch at a time over all models: ranks must agree on the order
        self.fatal: str | None = None
        self.last_used = self.trimmed = time.monotonic()
        self.metrics = ServerMetrics() if config.metrics_port is not None else None

    def answer(self, model: ServedModel, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch of PyTriton requests, each with its outputs or its own error."""
        started = time.monotonic()
        answers: list[Any] = [None] * len(requests)
        items = []
        for index, request in enumerate(requests):
            try:
                items.append((index, _read(model, request)))
            except RequestError as error:
                answers[index] = error
        if items:
            with self.lock if model.instances == 1 else contextlib.nullcontext():
                outputs = self._infer(model, [item for _, item in items])
                self.last_used = time.monotonic()
            for (index, _), output in zip(items, outputs):
                answers[index] = output
        if self.metrics is not None:
            self.metrics.observe(model.spec.name, answers, time.monotonic() - started)
        return [error_response("request", str(a)) if isinstance(a, RequestError) else a for a in answers]

    def _infer(self, model: ServedModel, items: list[Any]) -> Sequence[Any]:
        try:
            outputs = model.infer(items)
            if len(outputs) != len(items):
                raise ServerError(f"{model.spec.name} gave {len(outputs)} answers to {len(items)} requests")
            return outputs
        except RequestError as error:
            return [error] * len(items)
        except Exception as error:
            # Whatever a model raises must not end the server: it is one batch's answer. With several ranks the others
            # may now wait inside a collective for this one, so the server has to end.
            LOGGER.error("model %s failed\n%s", model.spec.name, traceback.format_exc())
            if _distributed() is not None:
                self.fatal = f"model {model.spec.name} failed on rank 0: {type(error).__name__}: {error}"
            message = f"the server failed on this batch: {type(error).__name__}: {error} (see the server's log)"
            return [error_response("server", message)] * len(items)

    def warm_up(self, model: ServedModel) -> None:
        if model.warm_up is None:
            return
        with self.lock:
            outputs = model.infer([model.read(model.warm_up) if model.read else model.warm_up])
        if isinstance(outputs[0], RequestError):
            raise ServerError(f"model {model.spec.name} refused its warm-up batch: {outputs[0]}")

    def run(self, models: Sequence[ServedModel]) -> None:
        from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy

        triton = TritonProcess(self.config)
        for model in models:
            if self.metrics is not None and model.counters is not None:
                self.metrics.watch(model.spec.name, model.counters)
            batcher = DynamicBatcher(
                max_queue_delay_microseconds=model.batch_delay_us,
                default_queue_policy=QueuePolicy(max_queue_size=model.max_queue),
            )
            model_config = ModelConfig(max_batch_size=model.max_batch, batcher=batcher)
            if not model.batching:
                model_config = ModelConfig(batching=False, max_batch_size=0, batcher=None)
            functions = [_as_function(self.answer, model) for _ in range(model.instances)]
            triton.bind(model.spec, functions, model_config, mixed_shapes=model.read is not None, info=model.info)
        endpoint = self.metrics.serve(self.config, triton.metrics_url) if self.metrics else contextlib.nullcontext()
        names = ", ".join(model.spec.name for model in models)
        deaths: list[float] = []
        with _stop_signals() as stop, endpoint:
            while not stop.is_set():
                with triton:
                    print(f"ready on {triton.url} (model {names})", flush=True)
                    while triton.alive() and not stop.wait(1.0):
                        self._look_after()
                    if stop.is_set():
                        print("stopping: answering what is in flight", flush=True)
                        return
                    what = f"Triton or a stub of it was killed: {triton.last_log_lines()}"
                deaths = [*(when for when in deaths if time.monotonic() - when < DEATHS_WINDOW_S), time.monotonic()]
                if len(deaths) > MAX_DEATHS:
                    raise ServerError(f"{what}; that was the {len(deaths)}th time within the hour")
                print(f"{what}; starting it again, the model stays loaded", flush=True)

    def _look_after(self) -> None:
        """What is done each second."""
        if time.monotonic() - self.trimmed > TRIM_INTERVAL_S:
            _libc.malloc_trim(0)
            self.trimmed = time.monotonic()
        if self.fatal:
            raise ServerError(self.fatal)
        self._keep_ranks_waiting()

    def _keep_ranks_waiting(self) -> None:
        """Send a sign of life to the other ranks, whose collective would time out on an idle server."""
        if time.monotonic() - self.last_used > IDLE_INTERVAL_S and self.lock.acquire(blocking=False):
            try:
                announce(Op.IDLE)
                self.last_used = time.monotonic()
            finally:
                self.lock.release()


def _read(model: ServedModel, request: Any) -> Any:
    """What `model.infer` takes. Triton counts inputs: an optional one makes up for one that is missing."""
    for tensor in model.spec.inputs:
        if not tensor.optional and tensor.name not in request.data:
            raise RequestError(f"input {tensor.name!r} is missing")
    if model.read is not None:
        return model.read(request.data)
    if model.check is not None:
        model.check(request.data)
    return request


def _as_function(
    answer: Callable[[ServedModel, Sequence[Any]], list[Any]], model: ServedModel
) -> Callable[[Sequence[Any]], list[Any]]:
    """A function of its own per model and instance: PyTriton stores attributes on what it is given."""

    def infer(requests: Sequence[Any]) -> list[Any]:
        return answer(model, requests)

    return infer


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second signal gets its former meaning, for the impatient."""
    stop = threading.Event()
    former: dict[int, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    # Installed even where SIGINT is ignored (a background job of a shell without job control inherits that).
    for number in (signal.SIGTERM, signal.SIGINT):
        former[number] = signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for former_number, handler in former.items():
            if handler is not None:  # None: it was not installed from Python
                signal.signal(former_number, handler)
