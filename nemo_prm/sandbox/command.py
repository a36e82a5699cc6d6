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
"""`nemo-prm verify`: judges one program, or a file of them as it is read, from the command line."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import signal
import sys
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, Iterator, NoReturn, Sequence, cast, get_args

from nemo_prm.config import SandboxConfig
from nemo_prm.errors import DataError, NemoPrmError
from nemo_prm.types import Level, Verdict

if TYPE_CHECKING:
    from nemo_prm.sandbox.verifier import SandboxVerifier
    from nemo_prm.types import Problem

NOT_PASSED, MISUSE, UNKNOWN = 1, 2, 3  # exit codes
STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EPILOG = """\
one program:
  --problem is one JSON object of the problem-file format (README.md), pretty-printed or not; it needs no
  `prompt`. --program is the whole program: `program_prefix` is not put in front of it. Bytes that are not UTF-8 are
  the program's fault, not an error.
  exit code: 0 passed, 1 not passed, 3 infra_error (the judge failed; nothing is known), 2 the command could not run.

many programs:
  --batch is a JSON Lines file (.gz too; - is standard input) of {"problem": {...}, "program": "..."}, read while it
  is judged, so it may be endless. Every row gives one line of JSON, in order, printed as soon as it is known.
  A row that cannot be judged (no JSON, a broken problem) keeps its place: its line says infra_error, which is
  "unknown", with line number and reason as `message`, and standard error says it, too.
  exit code: 0 all rows were judged, whatever the verdicts; 3 some verdict is infra_error; 2 some row could not be
  judged.

JSON:
  the fields of a verdict (`status`, `num_tests`, `num_passed`, `failing_test`, `expected`, `actual`, `message`,
  `seconds`, `peak_mib`, `sandbox`, `level`), and `verdict` (= `status`), `passed`, and `pass_rate`, which is a lower
  bound where --stop-at-first-failure or a limit that was hit left tests out. null is what is not known.

Interrupted by a signal it leaves no process behind and exits with 128 + its number (Ctrl-C 130, SIGTERM 143).
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nemo-prm verify",
        usage="nemo-prm verify --problem FILE --program FILE [--json] [options]\n"
        "       nemo-prm verify --batch FILE [options]",
        description="Judge programs by the tests of their problem, in the sandbox.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--problem", metavar="FILE", help="the problem, one JSON object")
    parser.add_argument("--program", metavar="FILE", help="the program; - is standard input")
    parser.add_argument("--json", action="store_true", help="print one line of JSON (always so with --batch)")
    parser.add_argument("--batch", metavar="FILE", help="rows of problem and program, JSON Lines; - is standard input")
    parser.add_argument("--workers", metavar="N", type=int, default=0, help="programs run at once (one per core)")
    parser.add_argument(
        "--minimum-level",
        choices=get_args(Level),
        default=SandboxConfig.minimum_level,
        help="refuse to start below this isolation: %(choices)s (%(default)s)",
    )
    parser.add_argument(
        "--time-limit", metavar="S", type=float, help="seconds per test, in place of the problem's own limit"
    )
    parser.add_argument("--stop-at-first-failure", action="store_true", help="skip the tests after one that fails")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, which takes over the process's signals, and return its exit code.

    Raises:
        NemoPrmError: it could not run; the caller prints the message and exits with code 2.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.batch is None and (args.problem is None or args.program is None):
        parser.error("--problem and --program are needed, or --batch")
    if args.batch is not None and (args.problem is not None or args.program is not None):
        parser.error("--batch goes without --problem and --program")
    for number in STOP:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is under nohup
            signal.signal(number, _end)
    try:
        return _judge_one(args) if args.batch is None else _judge_batch(args)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return 128 + signal.SIGPIPE
    except NemoPrmError:
        raise
    except OSError as error:
        print(f"error: the verdict cannot be written ({error})", file=sys.stderr)
        return UNKNOWN
    except Exception:  # Python's own exit code for it would say "not passed"
        traceback.print_exc()
        return UNKNOWN


def describe_as_json(verdict: Verdict) -> dict[str, Any]:
    """Return what strict JSON says of a verdict: its fields, and the names that the verifier server uses.

    Text that a program left and that is no valid Unicode comes out with backslash escapes. The pass rate of an
    `infra_error` is null.
    """
    from nemo_prm.data.rows import verdict_to_json
    from nemo_prm.sandbox.compare import valid_text

    known = verdict.status != "infra_error" and verdict.num_tests > 0
    fields = verdict_to_json(verdict)
    return {
        "verdict": verdict.status,
        "passed": verdict.passed,
        "pass_rate": verdict.pass_rate if known else None,
        **{name: valid_text(value) if isinstance(value, str) else value for name, value in fields.items()},
    }


def describe(verdict: Verdict) -> str:
    """Say a verdict in a few lines, with nothing in them that a terminal would obey."""
    numbers = [f"{verdict.num_passed} of {verdict.num_tests} tests passed", f"{verdict.seconds:.3f} s"]
    if verdict.peak_mib == verdict.peak_mib:  # measured
        numbers.append(f"{verdict.peak_mib:.0f} MiB")
    if verdict.level:
        numbers.append(f"isolation {verdict.level}")
    lines = [f"{verdict.status}: {', '.join(numbers)}"]
    if verdict.failing_test is not None:
        lines.append(f"  failing   tests[{verdict.failing_test}]")
    for name in ("expected", "actual", "message"):
        if text := getattr(verdict, name):
            lines.append(f"  {name:<8}  {_printable(text)}")
    return "\n".join(lines)


def _judge_one(args: argparse.Namespace) -> int:
    problem, program = _read_problem(args.problem), _read_program(args.program)
    with _verifier(args, workers=1) as verifier:
        verdict = verifier.verify(problem, program)
    print(json.dumps(describe_as_json(verdict)) if args.json else describe(verdict), flush=True)
    if verdict.status == "infra_error":
        return UNKNOWN
    return 0 if verdict.passed else NOT_PASSED


def _judge_batch(args: argparse.Namespace) -> int:
    from nemo_prm.sandbox.batch import judge_rows

    code = 0
    file = _open(args.batch)
    if args.batch.endswith(".gz"):
        file = cast(BinaryIO, gzip.GzipFile(fileobj=file))
    with _verifier(args, args.workers) as verifier:
        with contextlib.closing(judge_rows("<stdin>" if args.batch == "-" else args.batch, file, verifier)) as rows:
            for verdict, error in rows:
                if error is not None:
                    print(f"error: {error}", file=sys.stderr, flush=True)
                    code = MISUSE
                elif verdict.status == "infra_error":
                    code = code or UNKNOWN
                print(json.dumps(describe_as_json(verdict)), flush=True)
    return code


@contextlib.contextmanager
def _verifier(args: argparse.Namespace, workers: int) -> Iterator[SandboxVerifier]:
    from nemo_prm.sandbox.verifier import default_verifier

    config = SandboxConfig(
        workers=workers,
        time_limit_s=args.time_limit,
        stop_at_first_failure=args.stop_at_first_failure,
        minimum_level=args.minimum_level,
    )
    verifier = default_verifier(config)
    try:
        yield verifier
    finally:
        for number in STOP:  # for good, since the process ends now: a second Ctrl-C must not disturb it
            signal.signal(number, signal.SIG_IGN)
        verifier.close()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind the stack, so that the sandbox is closed on the way."""
    raise SystemExit(128 + number)


def _read_problem(path: str) -> Problem:
    from nemo_prm.data.jsonl import parse_object
    from nemo_prm.sandbox.batch import to_problem

    raw, where = _read(path), path
    try:
        json.loads(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"  # here an object may be spread over lines
    except (ValueError, RecursionError):
        pass  # parse_object says it
    return to_problem(parse_object(raw, where), where)


def _read_program(path: str) -> str:
    """The program as text; bytes that are not UTF-8 become lone surrogates, which no compiler accepts."""
    return _read(path).decode("utf-8-sig", "surrogateescape")


def _read(path: str) -> bytes:
    with _open(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


def _open(path: str) -> BinaryIO:
    """Open a file, or standard input for `-`: not `sys.stdin`, whose lock a thread that still reads it would keep."""
    try:
        return open(0, "rb", closefd=False) if path == "-" else open(path, "rb")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
