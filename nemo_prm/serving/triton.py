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
"""Triton as a child process: what it needs before it starts, how it starts, and that it never outlives its server."""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import logging
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from ctypes.util import find_library
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nemo_prm.config import ServerConfig
from nemo_prm.errors import ServerError
from nemo_prm.processes import free_ports
from nemo_prm.serving.watchdog import clean, model_folders, processes_from, runs
from nemo_prm.serving.wire import ModelSpec, resolve_token

START_TIMEOUT_S = 60.0
IDLE_S = 5.0  # without a batch, after which nothing is in flight; a Triton without connections ends before
RANK_VARIABLES = (  # of torchrun, Lightning's own launcher, mpirun, srun; the later may be inherited by the earlier
    "RANK",
    "LOCAL_RANK",
    "OMPI_COMM_WORLD_RANK",
    "SLURM_PROCID",
)
MAX_SOCKET_PATH = 107  # of a Unix socket on Linux, in bytes
PROTECTED_ENDPOINTS = (  # by the token; health stays open, so that probes need none
    "inference",
    "metadata",
    "model-config",
    "model-repository",
    "shared-memory",
    "statistics",
    "trace",
    "logging",
)
ERROR_OUTPUT = "__error__"
# Appended to the model file that PyTriton runs inside Triton. Without it an exception fails every request of a batch,
# its message buried in two tracebacks; with it one request is answered with its own message. An output of the name
# ERROR_OUTPUT, [1, 2] bytes, holds "request" or "server" and the message. Seen with PyTriton 0.7.0.
# The second part is for several instances of a model: all but the first ask that one for its settings, and give up
# after a second, or at once if it is about to listen.
# The third part is for inputs without an element: PyTriton cannot hand them over ("cannot cast view with zeros in
# shape"), and would fail every request of the batch.
PROXY_ADDITION = f'''

_wrap_response_of_pytriton = _wrap_response


def _wrap_response(response, requested_outputs_names, model_outputs_dict):
    if response.data is None or "{ERROR_OUTPUT}" not in response.data:
        return _wrap_response_of_pytriton(response, requested_outputs_names, model_outputs_dict)
    fault, message = (item.decode("utf-8") for item in response.data["{ERROR_OUTPUT}"].reshape(-1))
    code = pb_utils.TritonError.INVALID_ARG if fault == "request" else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))


_get_config_of_pytriton = get_config_from_handshake_server


def get_config_from_handshake_server(path):
    import time

    deadline = time.monotonic() + {START_TIMEOUT_S}
    while True:
        try:
            return _get_config_of_pytriton(path)
        except OSError:  # TimeoutError is one
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


_execute_of_pytriton = TritonPythonModel.execute


def _empty_input(request):
    for tensor in request.inputs():
        if 0 in (tensor.shape() if hasattr(tensor, "shape") else tensor.as_numpy().shape):
            return tensor.name()
    return None


def _execute(self, triton_requests):
    empty = [_empty_input(request) for request in triton_requests]
    whole = [request for request, name in zip(triton_requests, empty) if name is None]
    answers = iter(_execute_of_pytriton(self, whole) if whole else [])

    def refusal(name):
        error = pb_utils.TritonError(f"input {{name!r}} is empty", pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse(output_tensors=[], error=error)

    return [next(answers) if name is None else refusal(name) for name in empty]


TritonPythonModel.execute = _execute
'''.encode()


def error_response(fault: str, message: str) -> dict[str, NDArray[Any]]:
    """The answer to one request that failed; `fault` is "request" (HTTP 400) or "server" (HTTP 500)."""
    array = np.empty((1, 2), dtype=object)
    array[0] = [fault.encode(), message.encode("utf-8", errors="replace")]
    return {ERROR_OUTPUT: array}


def python_library() -> Path | None:
    """This interpreter's shared library, which Triton's Python back end loads; None where it has none.

    Without help the back end takes the first `libpython3.X` the loader finds: another build of the same version
    imports this environment's packages and fails in the standard library ("RLock has no attribute
    _recursion_count").
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    roots = [
        Path(sysconfig.get_config_var("LIBDIR") or "/"),
        *(Path(sys.base_prefix, lib) for lib in ("lib", "lib64")),
    ]
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for directory in (path for root in roots for path in (root, root / multiarch)):
        if (directory / name).exists():
            return directory / name
    return None


def use_python_library() -> None:
    """Put this interpreter's shared library on the loader's path of the child processes.

    Raises:
        ServerError: there is none, here or in the system.
    """
    library = python_library()
    if library is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        if find_library(f"python{version}"):
            return  # the system's, of the same version: the best there is
        raise ServerError(
            f"Triton's Python back end needs libpython{version}.so.1.0, and {sys.executable} comes without it; use a "
            f"Python built with --enable-shared, or install the system's libpython{version} package"
        )
    paths = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    if str(library.parent) not in paths:
        os.environ["LD_LIBRARY_PATH"] = ":".join([str(library.parent), *paths])


def check_address(config: ServerConfig) -> None:
    """Check that the server may and can listen; call it before anything slow.

    Port 0 is replaced by a free one, a host's name by its address: Triton takes no names. Does nothing on ranks other
    than 0, which do not listen.

    Raises:
        ServerError: the port is taken, the address is not this machine's, or it is open to others without a token.
    """
    ranks = [os.environ[name] for name in RANK_VARIABLES if name in os.environ]
    if ranks and ranks[0] != "0":
        return
    for option, port in (("port", config.port), ("metrics_port", config.metrics_port)):
        if port is not None and not 0 <= port <= 65535:
            raise ServerError(f"server.{option} must lie in [0, 65535], got {port}")
    if config.port == config.metrics_port != 0:
        raise ServerError(f"server.port and server.metrics_port are both {config.port}")
    try:
        address = socket.getaddrinfo(config.host, config.port, socket.AF_INET, socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ServerError(f"host {config.host!r} has no IPv4 address: {error.strerror}") from error
    config.host = address[4][0]
    if not ipaddress.ip_address(address[4][0]).is_loopback and not resolve_token(config.token):
        raise ServerError(
            f"host {config.host} can be reached from other machines, so a token is needed: set NEMO_PRM_TOKEN or "
            "server.token, or listen on 127.0.0.1"
        )
    for option, port in (("port", config.port), ("metrics_port", config.metrics_port)):
        if port is None:
            continue
        if port == 0:  # the kernel's own choice may be a client's before Triton listens, or while it is started again
            [port] = free_ports(1)
        with socket.socket(address[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address[4][0], port, *address[4][2:]))
                probe.listen()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise ServerError(
                        f"port {port} is taken on {config.host}; end the process that listens there, or choose "
                        f"another with server.{option}=..."
                    ) from error
                raise ServerError(f"cannot listen on {config.host}:{port}: {error.strerror}") from error
            setattr(config, option, port)


class TritonProcess:
    """Triton with models bound; a context manager that ends it, its stubs and its files whatever happens.

    Must be entered in the main thread: the kernel's death signal that PyTriton asks for is tied to the thread that
    starts Triton.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.url = f"http://{config.host}:{config.port}"
        # Triton's own metrics; those of the server join them at `config.metrics_port` (nemo_prm.serving.metrics)
        self._metrics_port = free_ports(1)[0] if config.metrics_port is not None else None
        self.metrics_url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        self._bindings: list[tuple[ModelSpec, Sequence[Callable[..., Any]], Any]] = []
        self._extensions: dict[str, dict[str, Any]] = {}  # of Triton's model configs, by model
        self._triton: Any = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._processes: dict[int, list[str]] = {}
        self._lock = threading.Lock()
        self._running, self._last_used = 0, 0.0  # batches, and when one ended

    def bind(
        self,
        spec: ModelSpec,
        infer: Sequence[Callable[..., Any]],
        model_config: Any,
        mixed_shapes: bool = False,
        info: Mapping[str, str] | None = None,
    ) -> None:
        """Serve `infer` as `spec` when entered: one function per instance, each of which takes a list of requests.

        Args:
            spec: name and tensors.
            infer: the functions.
            model_config: PyTriton's.
            mixed_shapes: put requests of different lengths into one batch; else Triton batches equal shapes alone.
            info: what the model config shows as `parameters`, at /v2/models/NAME/config.
        """
        self._bindings.append((spec, [self._counted(each) for each in infer], model_config))
        parameters = {name: {"string_value": value} for name, value in (info or {}).items()}
        self._extensions[spec.name] = {"mixed_shapes": mixed_shapes, "parameters": parameters}

    def __enter__(self) -> TritonProcess:
        from pytriton.model_config import Tensor
        from pytriton.triton import Triton, TritonConfig

        use_python_library()
        if not self.config.verbose:
            logging.getLogger("pytriton").setLevel(logging.ERROR)
        self._directory = _make_directory([spec.name for spec, *_ in self._bindings])
        self._watchdog = _start_watchdog(self._directory)
        try:
            self._triton = Triton(
                config=TritonConfig(
                    http_address=self.config.host,
                    http_port=self.config.port,
                    allow_grpc=False,
                    allow_metrics=self._metrics_port is not None,
                    metrics_port=self._metrics_port,
                    metrics_address="127.0.0.1" if self._metrics_port is not None else None,
                    exit_timeout_secs=self.config.drain_s,
                    log_file=None if self.config.verbose else self._directory / "triton.log",
                ),
                workspace=self._directory / "workspace",
                **_security(resolve_token(self.config.token)),
            )
            # PyTriton's model configs are complete. Without this Triton starts every model's stub twice, the first
            # time to ask for what is missing: 1.3 s a model.
            self._triton._triton_server_config["strict-model-config"] = True
            for spec, infer, model_config in self._bindings:
                inputs, outputs = (
                    [Tensor(name=t.name, dtype=t.dtype, shape=t.shape, optional=t.optional) for t in tensors]
                    for tensors in (spec.inputs, spec.outputs)
                )
                self._triton.bind(spec.name, infer, inputs, outputs, config=model_config)
            for model in self._triton._model_manager.models:
                _extend_proxy(model)
                _extend_config(model, **self._extensions[model.model_name])
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        """`Triton.run()`, but a Triton that dies while it starts is noticed at once and not after two minutes."""
        self._triton._run_server()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self.config.host, self.config.port):
            if not self._triton._triton_server.is_alive():
                raise ServerError(f"Triton ended while it started: {self.last_log_lines()}")
            if time.monotonic() > deadline:
                raise ServerError(f"Triton does not answer after {START_TIMEOUT_S:.0f} s: {self.last_log_lines()}")
            time.sleep(0.05)
        try:
            self._triton.connect()
        except Exception as error:  # PyTriton and tritonclient raise many kinds here
            raise ServerError(f"Triton could not load its models: {error} ({self.last_log_lines()})") from error
        self._processes = processes_from(str(self._directory))

    def alive(self) -> bool:
        """Whether Triton and every model's stub run; without a stub, Triton goes on and answers errors."""
        return bool(self._triton.is_alive()) and all(runs(process) for process in self._processes)

    def last_log_lines(self, count: int = 3) -> str:
        """The end of Triton's log, on one line."""
        path = self._directory / "triton.log"
        text = self._triton._triton_server.logs() + (path.read_text(errors="replace") if path.exists() else "")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("|", "+"))]
        return " / ".join(lines[-count:]) or "it logged nothing"

    def _counted(self, infer: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(infer)
        def run(requests: Any) -> Any:
            with self._lock:
                self._running += 1
            try:
                return infer(requests)
            finally:
                with self._lock:
                    self._running, self._last_used = self._running - 1, time.monotonic()

        return run

    def _kill_when_idle(self, directory: str) -> None:
        """Kill the Triton of `directory`, which has been told to end, when it has nothing to do any more.

        It would wait for every client to close its connection, up to `drain_s`; one that keeps it open does not.
        """
        started = time.monotonic()
        while self._running or time.monotonic() < max(started, self._last_used) + IDLE_S:
            time.sleep(0.1)
        running = processes_from(directory)  # not those of before: a number may be used again
        for process in running.keys() - model_folders(running).keys():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._triton is not None and self._triton._triton_server is not None:
            threading.Thread(target=self._kill_when_idle, args=[str(self._directory)], daemon=True).start()
            self._triton.stop()  # SIGINT: no new requests, those in flight get `drain_s` seconds
        if self._watchdog is not None:
            self._watchdog.terminate()
            self._watchdog.wait()
            clean(os.getpid(), str(self._directory), model_folders(self._processes).values())


def _security(token: str | None) -> dict[str, Any]:
    try:
        from pytriton.triton import TritonSecurityConfig
    except ImportError as error:  # before PyTriton 0.7
        if token:
            raise ServerError(
                "this version of PyTriton knows no access tokens; install nvidia-pytriton 0.7.0, or unset "
                "server.token and NEMO_PRM_TOKEN"
            ) from error
        return {}
    # Without a token of ours PyTriton still guards the administrative endpoints with a random one.
    return {"security_config": TritonSecurityConfig(token, list(PROTECTED_ENDPOINTS) if token else None)}


def _make_directory(models: Sequence[str]) -> Path:
    """A new directory for Triton's copy and its sockets, in PyTriton's home unless the sockets' paths get too long."""
    from pytriton.constants import PYTRITON_HOME

    socket_name = max((f"workspace/{name}_0_0-server.sock" for name in models), key=len, default="")
    for parent in (PYTRITON_HOME, Path(tempfile.gettempdir()), Path("/tmp")):
        if len(str(parent / "nemo_prm_12345678" / socket_name)) <= MAX_SOCKET_PATH:
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="nemo_prm_", dir=parent))
    raise ServerError(f"model name {max(models, key=len)!r} is too long for a socket's path")


def _start_watchdog(directory: Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("watchdog.py")
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), str(os.getpid()), str(directory)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the server's process group must not end it first
    )


def _extend_proxy(model: Any) -> None:
    """Make a model of PyTriton answer with `error_response`s where the batch holds one, and so on: PROXY_ADDITION."""
    files_of_pytriton = model.get_proxy_model_files

    def files() -> dict[str, bytes]:
        files: dict[str, bytes] = files_of_pytriton()
        name = f"file:{model.model_version}/model.py"
        if b"\ndef _wrap_response(" not in files[name] or b"get_config_from_handshake_server(" not in files[name]:
            raise ServerError("this version of PyTriton keeps its responses elsewhere; 0.7.0 is known to work")
        files[name] += PROXY_ADDITION
        return files

    model.get_proxy_model_files = files


def _extend_config(model: Any, mixed_shapes: bool, parameters: Mapping[str, Any]) -> None:
    """Add to a model's config what PyTriton 0.7 has no words for."""
    config_of_pytriton = model.get_model_config

    def config() -> dict[str, Any]:
        config: dict[str, Any] = config_of_pytriton()
        for tensor in config.get("input", []) if mixed_shapes else []:
            tensor["allow_ragged_batch"] = True  # Triton's Python back end gets the requests apart, as ever
        return {**config, "parameters": {**config.get("parameters", {}), **parameters}}

    model.get_model_config = config


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
